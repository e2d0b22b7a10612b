"""environment.yml: what a user wants from conda's channels. Knows nothing of mirrors or solvers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bootstrap.backends.conda.packages import text_of
from bootstrap.errors import UsageProblem
from mirrors import catalogue

# It may stand on a command line, so it must not look like an option; and a channel of its own would need a priority.
_SPEC = re.compile(r"[A-Za-z0-9_][^\x00-\x1f]*")
_CHANNEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(?:/label/[A-Za-z0-9_.-]+)?")
_KEYS = ("name", "prefix", "channels", "dependencies")  # the first two say where conda would put it: we do
_HINT = "write `channels:` and `dependencies:`, one `- NAME` a line, as `conda env export --from-history` does"


@dataclass(frozen=True)
class Environment:
    """What is wanted: specs such as "pytorch>=2.13", and the channels to look in, the most important one first."""

    path: Path
    channels: tuple[str, ...]
    specs: tuple[str, ...]


def read(path: Path) -> Environment:
    """An environment.yml.

    Raises:
        UsageProblem: it cannot be read, or asks for what this tool cannot give.
        BadMirror: a channel is an address that cannot be used.
    """
    try:
        content = yaml.safe_load(text_of(path))
    except yaml.YAMLError as error:
        raise UsageProblem(f"{path} is not YAML: {getattr(error, 'problem', error)}", "mend the file") from error
    if not isinstance(content, dict) or not isinstance(content.get("dependencies"), list):
        raise UsageProblem(f"{path} has no list of dependencies", _HINT)
    unknown = next((key for key in content if key not in _KEYS), None)
    if unknown is not None:
        raise UsageProblem(f"{path}: {unknown!r} cannot be carried out: only channels and dependencies can", _HINT)
    channels = tuple(_channel(it, path) for it in content.get("channels") or () if it != "nodefaults")
    if not channels:
        raise UsageProblem(f"{path} names no channels", "write `channels:` and `- conda-forge` below it")
    return Environment(path, channels, tuple(_spec(it, path) for it in content["dependencies"]))


def _channel(channel: Any, path: Path) -> str:
    if channel == "defaults":
        raise UsageProblem(
            f"{path}: the channel `defaults` is not published for redistribution, so its mirrors are not used",
            "use conda-forge",
        )
    if isinstance(channel, str) and "://" in channel:
        if "@" in channel or "/t/" in channel:
            raise UsageProblem(
                f"{path}: a channel's address must not carry a password or token: it would end up in the lock",
                "put the name and password for its host into ~/.netrc",
            )
        return catalogue.adhoc(channel, kind="conda").url
    if not isinstance(channel, str) or not _CHANNEL.fullmatch(channel):
        raise UsageProblem(f"{path}: {channel!r} is no channel", "name it, or give its https:// address")
    return channel


def _spec(spec: Any, path: Path) -> str:
    if isinstance(spec, dict) and set(spec) == {"pip"}:
        raise UsageProblem(
            f"{path} has a pip section, whose packages would come without hashes that were checked",
            "name them as conda packages, or use --backend uv with a requirements file",
        )
    if not isinstance(spec, str) or not _SPEC.fullmatch(spec):
        raise UsageProblem(f"{path}: {spec!r} is no dependency", "write NAME, NAME=VERSION or NAME>=VERSION")
    if "::" in spec:
        raise UsageProblem(
            f"{path}: {spec!r} names a channel of its own", "list that channel under channels, in the order to prefer"
        )
    return spec.strip()
