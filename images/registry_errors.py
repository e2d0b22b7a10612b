"""What a registry's failure is to a person: one line and a hint. Sends nothing.

What a registry says of itself is shown in short and without anything that a terminal could obey.
"""

from __future__ import annotations

import json
import re
from typing import Any

import requests

from images.errors import ImageError
from images.references import Reference
from mirrors.errors import Unreachable
from mirrors.http import unreachable

_LONGEST = 200
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_DISK_FULL = re.compile(r"no space left|insufficient.storage|quota exceeded|\"Err\": ?28\b", re.IGNORECASE)
_WRONG_DIGEST = "DIGEST_INVALID"
_UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"  # OpenSSL's own word for it

# Sentences about an answer, and what to do.
_NO_ACCESS = (
    "{host} gives you no access to {what}: {said}",
    "see that the name is right; with an account that may: docker login {host}",
)
_BY_STATUS = {
    401: _NO_ACCESS,
    403: _NO_ACCESS,
    404: (
        "{host} does not know {what}: {said}",
        "see that the name is right; if it is private: docker login {host}",
    ),
    413: ("{host} takes not even small pieces of {what}: {said}", "raise the size that the proxy before it allows"),
    429: ("{host} has had too many requests: {said}", "wait a while, or use an account: docker login {host}"),
}
_FULL = ("the disk of the registry {host} is full", "make room there, then do it again: what arrived is kept")
_CHANGED = (
    "{host} found other bytes than those of {what}: {said}",
    "they were changed on this machine, or on their way: verify the files, then do it again",
)
_FAILED = ("the registry {host} failed at {what}: {said}", "look at its log, then do it again: what arrived is kept")
_OTHERWISE = ("{host} refuses {what}: {said}", "the registry's log may say more")


class RegistryError(ImageError):
    """A request that a registry did not answer, or not with what was asked for.

    Attributes:
        status: of the answer; 0 if there was none.
        passes: whether the same request may succeed a little later.
        wait: the seconds that the registry asks us to wait first, if it does.
    """

    def __init__(
        self, message: str, hint: str = "", *, status: int = 0, passes: bool = False, wait: float | None = None
    ) -> None:
        super().__init__(message, hint)
        self.status = status
        self.passes = passes
        self.wait = wait


def unanswered(url: str, error: BaseException) -> RegistryError:
    """For a request that brought no answer, or one whose body broke off."""
    found = error if isinstance(error, Unreachable) else unreachable(url, error)
    if _UNTRUSTED in str(error):
        hint = "if its certificate is from an authority of your own, name that in a PEM file: SSL_CERT_FILE=..."
        return RegistryError(str(found), hint)
    if isinstance(error, requests.exceptions.ProxyError):
        return RegistryError(str(found), "see HTTPS_PROXY, and NO_PROXY for registries that need none")
    # A TLS connection that is cut looks like a TLS failure, and is none.
    cut = isinstance(error, requests.exceptions.SSLError)
    hint = "see that the name is right, that the registry runs, and that this machine can reach it"
    return RegistryError(str(found), hint, passes=cut or found.retry != "never")


def refused(reference: Reference, what: str, status: int, body: bytes, wait: float | None) -> RegistryError:
    """For an answer that is none of those that were hoped for.

    Args:
        reference: whom we asked.
        what: what it was about, such as "the image X".
        status: of the answer.
        body: of the answer, or the beginning of it.
        wait: the seconds that it asks us to wait.
    """
    message, hint = found = _explained(status, body)
    names = {"host": reference.host, "what": what, "said": f"{status} {_said(body)}".rstrip()}
    passes = status in _PASSING and found is not _FULL
    return RegistryError(message.format_map(names), hint.format_map(names), status=status, passes=passes, wait=wait)


def _explained(status: int, body: bytes) -> tuple[str, str]:
    """The sentence and the hint for a status, their names not filled in."""
    text = body.decode(errors="replace")
    if status == 507 or (status >= 500 and _DISK_FULL.search(text)):
        return _FULL
    if status == 400 and _WRONG_DIGEST in text:
        return _CHANGED
    return _BY_STATUS.get(status, _FAILED if status >= 500 else _OTHERWISE)


def damaged(reference: Reference, what: str, why: str) -> ImageError:
    """For bytes that are not what they should be."""
    return ImageError(
        f"{reference.host} sends {what} wrong: {why}", "its storage, or a proxy before it, is damaged or hostile"
    )


def _said(body: bytes) -> str:
    """The messages in a registry's answer, as one line of plain characters."""
    try:
        errors: Any = json.loads(body)["errors"]
        texts = [str(error.get("message") or error.get("code")) for error in errors]
    except (ValueError, KeyError, TypeError, AttributeError):
        texts = []
    plain = "".join(sign if sign.isprintable() else " " for sign in "; ".join(texts))
    return " ".join(plain.split())[:_LONGEST]
