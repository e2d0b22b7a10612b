"""conda, mamba and micromamba, as they are found on the machine: to solve, and to install.

They are given a channel on this disk and nothing else: the records that we have collected to solve with, and the files
that we have fetched to install from. Neither the user's configuration, package cache and list of environments nor the
network are used: they get a home directory of their own for as long as they run.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bootstrap import spawn
from bootstrap.backends.conda.rattler import NoSolution
from bootstrap.errors import SetupError
from mirrors.urls import redact

_FOREIGN = ("CONDA", "_CONDA", "_CE_", "MAMBA")
_HINT = "what it printed stands above; `--backend rattler` takes the built-in solver instead"
_REASON_LINES = 12


@dataclass(frozen=True)
class Program:
    """One of the family.

    Attributes:
        name: conda, mamba or micromamba.
        path: of the program.
        version: what it says of itself ("2.1.0").
    """

    name: str
    path: str
    version: str

    def solve(self, channels: Sequence[str], specs: Sequence[str], room: Path, env: Mapping[str, str]) -> list[str]:
        """Which packages fulfil the specs: SUBDIR/NAME-VERSION-BUILD, dependencies first.

        Args:
            channels: file URLs, the most important one first.
            specs: what is wanted.
            room: an empty directory for what it leaves behind.
            env: such as CONDA_OVERRIDE_CUDA.

        Raises:
            NoSolution: there is none, or the program failed.
            SetupError: the program cannot be run.
        """
        asked = [part for channel in channels for part in ("--channel", channel)]
        command = self._create(room / "none", room)
        command += ["--dry-run", "--json", "--override-channels", *asked, "--strict-channel-priority", *specs]
        answer = _json(self._run(command, room, env).output)
        links = answer.get("actions", {}).get("LINK", [])
        if not links:
            raise NoSolution(f"{self.name} found no solution: {_told(answer)}", _HINT)
        return [f"{_subdir(link)}/{link['name']}-{link['version']}-{_build(link)}" for link in links]

    def install(
        self, prefix: Path, urls: Sequence[str], room: Path, env: Mapping[str, str], on_line: Callable[[str], None]
    ) -> None:
        """Make exactly these package files, dependencies first, the contents of a prefix that is not there yet.

        Raises:
            SetupError: the program failed.
        """
        explicit = room / "explicit.txt"
        explicit.write_text("\n".join(["@EXPLICIT", *urls]) + "\n", encoding="utf-8")
        command = [*self._create(prefix, room), "--file", str(explicit)]
        done = self._run(command, room, env, on_line)
        if done.code != 0 or not (prefix / "conda-meta").is_dir():
            raise SetupError(f"{self.name} could not install the packages: {_last(done.output)}", _HINT)

    @property
    def _is_libmamba(self) -> bool:
        """Whether it has the options of micromamba; mamba 1 was a conda in disguise."""
        return self.name == "micromamba" or (self.name == "mamba" and not self.version.startswith(("0.", "1.")))

    def _create(self, prefix: Path, room: Path) -> list[str]:
        command = [self.path, "create", "--prefix", str(prefix), "--yes", "--offline"]
        if self._is_libmamba:
            return [*command, "--no-rc", "--no-env", "--root-prefix", str(room / "root")]
        return [*command, "--no-default-packages"]

    def _run(
        self, command: list[str], room: Path, env: Mapping[str, str], on_line: Callable[[str], None] | None = None
    ) -> spawn.Finished:
        home = room / "home"
        home.mkdir(exist_ok=True)
        users = dict.fromkeys(name for name in os.environ if name.startswith(_FOREIGN) or name.startswith("XDG_"))
        ours = {
            **users,
            "HOME": str(home),
            "CONDA_PKGS_DIRS": str(room / "pkgs"),
            "CONDA_REGISTER_ENVS": "false",
            "CONDA_NOTIFY_OUTDATED_CONDA": "false",
            "CONDA_ADD_PIP_AS_PYTHON_DEPENDENCY": "false",  # pip is taken where it is asked for
            "PYTHONNOUSERSITE": "1",
            **env,
        }
        lines: list[str] = []

        def hear(line: str) -> None:
            lines.append(line)
            if on_line is not None:
                on_line(line)

        try:
            done = spawn.run(command, env=ours, on_line=hear)
        except spawn.ProgramMissing as error:
            raise SetupError(
                f"{self.name} cannot be run: {error}",
                f"install {self.name} anew, or take --backend rattler, which is built in",
            ) from error
        return spawn.Finished(done.code, "\n".join(lines))


def _json(output: str) -> dict[str, Any]:
    """The JSON document among what was printed: warnings may stand before and behind it."""
    start = re.search(r"^\{", output, re.MULTILINE)
    try:
        document = json.JSONDecoder().raw_decode(output, start.start())[0] if start else {}
    except ValueError:
        document = {}
    return document if isinstance(document, dict) and document else {"message": _last(output)}


def _told(answer: Mapping[str, Any]) -> str:
    """Why there is no solution: mamba logs it, conda makes it the message."""
    logged = [row["message"] for row in answer.get("log_history", ()) if row.get("level") == "error"]
    problems = logged or [answer.get("message") or answer.get("error") or "it gave no reason"]
    return redact(" ".join(" ".join(map(str, problems)).split()))[:1000]


def _last(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return redact(" ".join(lines[-_REASON_LINES:]))[:1000] or "it gave no reason"


def _subdir(link: Mapping[str, Any]) -> str:
    return str(link.get("platform") or link["subdir"])


def _build(link: Mapping[str, Any]) -> str:
    return str(link.get("build_string") or link["build"])
