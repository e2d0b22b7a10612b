"""Environments built by uv: a virtual environment, and exactly the packages of a hashed lock in it.

uv is run as a subprocess. Index URLs reach it by its configuration file, never by its arguments.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import uv

from bootstrap import spawn
from bootstrap.errors import SetupError
from mirrors.urls import redact

_SUMMARY = re.compile(r"^(Resolved|Prepared|Installed) (\d+) packages? in (.+)$")
_DURATION = re.compile(r"([\d.]+)\s*(ms|s|m)(?![a-z])")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}
_DECORATION = " \u00d7\u251c\u2570\u2500\u25b6\u2502"  # the lines and arrows that uv draws around its errors
_REASON_LINES = 7
_NOT_INHERITED = (
    "UV_DEFAULT_INDEX",
    "UV_INDEX",
    "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_NO_INDEX",
    "UV_INSECURE_HOST",
    "UV_OFFLINE",
    "UV_CONFIG_FILE",
)
_HINTS = (
    ("hash mismatch", "the mirror serves bytes that are not the locked ones; run again with --mirror upstream"),
    ("No space left", "free some space, or set I2V_SETUP_HOME to a directory on a larger disk"),
    ("no wheels with a matching", "the lock has no build for this machine; try --torch cpu"),
    ("was not found in the package registry", "the mirror lacks a locked package; choose another with --mirror"),
    ("certificate", "set SSL_CERT_FILE, or `cert` in pip.conf, to your proxy's CA bundle"),
    ("error sending request", "the index cannot be reached; run `i2v-setup detect` to see which mirrors can"),
)


@dataclass(frozen=True)
class Phase:
    """One of uv's own phases, as it reports them: resolve, download (and unpack), link."""

    name: str
    packages: int
    seconds: float


def create(path: Path, python: str, env: Mapping[str, str]) -> None:
    """Make an empty virtual environment with the given interpreter (a path, or a version that uv finds or fetches).

    Raises:
        SetupError: there is no such Python, or the directory cannot be written.
    """
    done = _uv(["venv", "--python", python, "--no-config", str(path)], env)
    if done.code != 0:
        raise SetupError(
            f"uv could not make an environment with Python {python}: {_reason(done.output)}", _hint(done.output)
        )


def sync(
    python: Path, lock: Path, config: Path, env: Mapping[str, str], on_line: Callable[[str], None]
) -> tuple[Phase, ...]:
    """Install exactly what the lock names, every file checked against the lock's sha256.

    Best match over all indexes is safe here, and only here: a file that is not locked is refused whoever serves it.

    Raises:
        SetupError: uv failed; nothing of the environment is in use then.
    """
    phases: list[Phase] = []

    def read(line: str) -> None:
        match = _SUMMARY.match(line)
        if match:
            name = {"Resolved": "resolve", "Prepared": "download", "Installed": "link"}[match[1]]
            phases.append(Phase(name, int(match[2]), _seconds(match[3])))
        on_line(line)

    arguments = ["pip", "sync", "--python", str(python), "--require-hashes", "--config-file", str(config)]
    done = _uv([*arguments, "--index-strategy", "unsafe-best-match", "--link-mode", "hardlink", str(lock)], env, read)
    if done.code != 0:
        raise SetupError(f"the packages could not be installed: {_reason(done.output)}", _hint(done.output))
    return tuple(phases)


def _uv(arguments: list[str], env: Mapping[str, str], on_line: Callable[[str], None] | None = None) -> spawn.Finished:
    # The user's own variables would go before the configuration that we write, and one switches verification off.
    ours = {**dict.fromkeys(_NOT_INHERITED), "NO_COLOR": "1", "UV_NO_PROGRESS": "1", **env}
    return spawn.run([str(uv.find_uv_bin()), *arguments], env=ours, on_line=on_line)


def _seconds(text: str) -> float:
    return sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(text))


def _reason(output: str) -> str:
    """What uv says went wrong, in one line: what it printed from its `error:` on."""
    lines = [line.strip(_DECORATION) for line in output.splitlines() if line.strip(_DECORATION)]
    begin = next((number for number, line in enumerate(lines) if line.startswith("error:")), 0)
    told = [line.removeprefix("error: ") for line in lines[begin:] if not line.startswith("hint:")]
    return redact(" ".join(told[:_REASON_LINES])) or "it gave no reason"


def _hint(output: str) -> str:
    return next(
        (hint for sign, hint in _HINTS if sign.lower() in output.lower()), "run again; what was fetched is kept"
    )
