"""The names of images, read as Docker reads them: `[host[:port]/]path[:tag][@digest]`. Pure text.

https://github.com/distribution/reference
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from images.errors import ImageError
from mirrors.urls import is_loopback

DOCKER_HUB = "docker.io"
_HUB_NAMES = ("docker.io", "index.docker.io", "registry-1.docker.io")
_HUB_API = "registry-1.docker.io"
_HUB_OFFICIAL = "library"
_LONGEST = 255  # of host and path together

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:]+\])(?::[0-9]+)?")
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Reference:
    """An image on a registry, all defaults filled in.

    Attributes:
        host: with its port, if one is named; "docker.io" for Docker Hub.
        repository: the path on that host.
        tag: "" if only a digest was named.
        digest: "sha256:" and 64 digits, or "".
    """

    host: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """Host and repository."""
        return f"{self.host}/{self.repository}"

    @property
    def api_host(self) -> str:
        """Who is asked: Docker Hub's registry has another name than its images."""
        return _HUB_API if self.host == DOCKER_HUB else self.host

    @property
    def is_loopback(self) -> bool:
        """Whether the registry is on this machine, so that plain http will do."""
        return is_loopback(f"//{self.host}")

    @property
    def target(self) -> str:
        """What names the manifest: the digest, if there is one, else the tag."""
        return self.digest or self.tag

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}{'@' if self.digest else ''}{self.digest}"


def parse(text: str) -> Reference:
    """The image that a user means; the tag is "latest" if neither tag nor digest is named.

    Raises:
        ImageError: Docker would not take it either; the message says which part is wrong.
    """
    if "://" in text:
        raise _bad(text, "an image's name has no scheme", "leave out what is before the host")
    name, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise _bad(text, "the digest is not sha256: and 64 hexadecimal digits")
    head, slash, last = name.rpartition("/")
    last, colon, tag = last.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise _bad(text, "the tag may have letters, digits, '_', '.' and '-', and at most 128 of them")
    host, repository = _split(f"{head}{slash}{last}")
    if not _HOST.fullmatch(host):
        raise _bad(text, f"{host} is no host name")
    if not _PATH.fullmatch(repository):
        raise _bad(text, "the path may have small letters and digits, with single '.', '_', '-' and '/' between them")
    if _ID.fullmatch(name):
        raise _bad(text, "64 hexadecimal digits are an image's id", "name the image by its repository")
    if host in _HUB_NAMES:
        host, repository = DOCKER_HUB, repository if "/" in repository else f"{_HUB_OFFICIAL}/{repository}"
    if len(host) + 1 + len(repository) > _LONGEST:
        raise _bad(text[:40] + "...", f"the name is longer than {_LONGEST} characters")
    return Reference(host, repository, tag or ("" if digest else "latest"), digest)


def _split(name: str) -> tuple[str, str]:
    """Host and path. What is before the first slash is a host only if it looks like one."""
    first, slash, rest = name.partition("/")
    if slash and (first == "localhost" or first != first.lower() or any(sign in first for sign in ".:")):
        return first, rest
    return DOCKER_HUB, name


def _bad(
    text: str, why: str, hint: str = "write [HOST[:PORT]/]NAME[:TAG], such as registry.example.com/i2v:1"
) -> ImageError:
    return ImageError(f"{text or 'nothing'} is not an image's name: {why}", hint)
