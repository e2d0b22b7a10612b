"""Environments built by uv: a virtual environment, and exactly the wheels of a lock in it.

uv is run as a subprocess and asks this machine only: a gateway in front of the mirrors gives it the wheels, and it
checks each against the lock's sha256 itself, as we did before. No address of a mirror ever reaches it.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import uv
from pypi_simple import PYPI_SIMPLE_ENDPOINT

from bootstrap import spawn
from bootstrap.errors import SetupError
from mirrors import pylock
from mirrors.fetch import Downloads
from mirrors.gateway import Gateway
from mirrors.resolve import Wheel
from mirrors.urls import redact

_SUMMARY = re.compile(r"^(Prepared|Installed) (\d+) packages? in (.+)$")
_DURATION = re.compile(r"([\d.]+)\s*(ms|s|m)(?![a-z])")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}
_DECORATION = " \u00d7\u251c\u2570\u2500\u25b6\u2502"  # the lines and arrows that uv draws around its errors
_REASON_LINES = 7
_FULL = "No space left"
# The user's other variables for uv could turn it to another index, or switch a verification off.
_INHERITED = (
    "UV_CACHE_DIR",
    "UV_HTTP_TIMEOUT",
    "UV_NATIVE_TLS",
    "UV_SYSTEM_CERTS",
    "UV_PYTHON_CACHE_DIR",
    "UV_PYTHON_DOWNLOADS",
    "UV_PYTHON_INSTALL_DIR",
    "UV_PYTHON_INSTALL_MIRROR",
    "UV_PYTHON_PREFERENCE",
)
_DIRECT = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}  # nothing else is asked
_PATIENCE = "600"  # seconds; how slow is too slow is the fetch's to say, which tries other mirrors before it gives up
_CONCURRENT = 50  # what uv downloads at once by itself; files that are not asked for are not fetched
_HINTS = (
    ("hash mismatch", "a wheel in a local directory was changed while it was installed; run again"),
    (
        _FULL,
        "free some space, or set I2V_SETUP_HOME or UV_CACHE_DIR, whichever is full, to a larger disk",
    ),
    ("for the current platform", "the lock has no build for this machine; try --torch cpu"),
    ("certificate", "set SSL_CERT_FILE, or `cert` in pip.conf, to your proxy's CA bundle"),
    ("error sending request", "no Python could be downloaded; install one, or check the network"),
)


@dataclass(frozen=True)
class Phase:
    """One of uv's own phases, as it reports them: unpack (which goes on while bytes come in), link.

    `ended` is the monotonic time at which uv said that it was done.
    """

    name: str
    packages: int
    seconds: float
    ended: float


def create(path: Path, python: str, env: Mapping[str, str]) -> None:
    """Make an empty virtual environment with the given interpreter (a path, or a version that uv finds or fetches).

    Raises:
        SetupError: there is no such Python, or the directory cannot be written.
    """
    done = run(["venv", "--python", python, "--no-config", str(path)], env)
    if done.code != 0:
        raise SetupError(
            f"uv could not make an environment with Python {python}: {reason(done.output)}", _hint(done.output)
        )


def install(
    python: Path,
    wheels: Sequence[Wheel],
    downloads: Downloads,
    env: Mapping[str, str],
    on_line: Callable[[str], None],
) -> tuple[Phase, ...]:
    """Make exactly these wheels the packages of an environment. What uv's cache has is not fetched.

    Args:
        python: the environment's interpreter.
        wheels: what the lock names; one whose first address is a file URL is taken from there.
        downloads: who fetches the others.
        env: added to uv's environment.
        on_line: told each line that uv prints.

    Raises:
        MirrorError: a wheel could not be had; why, for each mirror.
        SetupError: uv failed; nothing of the environment is in use then.
    """
    remote, root = [wheel for wheel in wheels if wheel.path is None], python.parent.parent
    ours = {
        **env,
        **_DIRECT,
        "UV_HTTP_TIMEOUT": _PATIENCE,
        "UV_CONCURRENT_DOWNLOADS": str(max(_CONCURRENT, len(remote))),
    }
    # uv unpacks while it reads, so it may stumble over wrong bytes before they are found out and fetched again.
    for whole in (False, True):
        with (
            Gateway(remote, downloads, whole=whole) as gateway,
            TemporaryDirectory(prefix=".install-", dir=root) as directory,
        ):
            lock = Path(directory) / "pylock.toml"
            lock.write_text(pylock.text(wheels, gateway.url), encoding="utf-8")
            done, phases = _sync(python, lock, ours, on_line)
        if done.code == 0:
            return phases
        for failure in gateway.failures.values():
            raise failure  # uv itself only saw that there was no file
        if not gateway.unfinished:
            break
    raise SetupError(f"the packages could not be installed: {reason(done.output)}", _hint(done.output))


def _sync(
    python: Path, lock: Path, env: Mapping[str, str], on_line: Callable[[str], None]
) -> tuple[spawn.Finished, tuple[Phase, ...]]:
    phases: list[Phase] = []

    def read(line: str) -> None:
        match = _SUMMARY.match(line)
        if match:
            name = {"Prepared": "unpack", "Installed": "link"}[match[1]]
            phases.append(Phase(name, int(match[2]), _seconds(match[3]), time.monotonic()))
        on_line(line)

    # The index is never asked; uv looks in its cache for what came from it, whoever it came from (see mirrors.pylock).
    arguments = ["pip", "sync", "--no-config", "--default-index", PYPI_SIMPLE_ENDPOINT, "--preview-features", "pylock"]
    done = run([*arguments, "--python", str(python), "--link-mode", "hardlink", str(lock)], env, read)
    return done, tuple(phases)


def run(arguments: list[str], env: Mapping[str, str], on_line: Callable[[str], None] | None = None) -> spawn.Finished:
    """Run uv without those of the user's variables that turn it elsewhere; `env` is added."""
    users = dict.fromkeys(name for name in os.environ if name.startswith("UV_") and name not in _INHERITED)
    ours = {**users, "NO_COLOR": "1", "UV_NO_PROGRESS": "1", **env}
    return spawn.run([str(uv.find_uv_bin()), *arguments], env=ours, on_line=on_line)


def _seconds(text: str) -> float:
    return sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(text))


def reason(output: str) -> str:
    """What uv says went wrong, in one line: what it printed from its `error:` on."""
    lines = [line.strip(_DECORATION) for line in output.splitlines() if line.strip(_DECORATION)]
    begin = next((number for number, line in enumerate(lines) if line.startswith("error:")), 0)
    told = [line.removeprefix("error: ") for line in lines[begin:] if not line.startswith("hint:")]
    if any(_FULL in line for line in told):  # then nothing matters but which file there was no room for
        return redact(re.split(r"(?:caused by|cause): ", " ".join(told), flags=re.IGNORECASE)[-1])
    return redact(" ".join(told[:_REASON_LINES])) or "it gave no reason"


def _hint(output: str) -> str:
    return next(
        (hint for sign, hint in _HINTS if sign.lower() in output.lower()), "run again; what was fetched is kept"
    )
