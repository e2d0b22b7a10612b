"""Which processes work in a directory: their program lies in it, or they have loaded a library from it.

On Linux every library that is loaded is seen, for processes of the same user; elsewhere the program only.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Process:
    """A running process, and the beginning of its command line. Arguments may be secret, so few are told."""

    pid: int
    title: str

    def __str__(self) -> str:
        return f"{self.title} (pid {self.pid})"


def processes(directory: Path) -> tuple[Process, ...]:
    """The processes that work in it now, those of other users as far as they can be seen."""
    return tuple(_found(f"{directory.resolve()}{os.sep}"))


def _found(prefix: str) -> Iterator[Process]:
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            command = process.cmdline()
            if command and (command[0].startswith(prefix) or _loaded(process.pid, prefix)):
                yield Process(process.pid, _title(command))


def _loaded(pid: int, prefix: str) -> bool:
    with suppress(OSError):  # another system, or another user's process
        return f" {prefix}" in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace")
    return False


def _title(command: list[str]) -> str:
    """The program's name, and the module where it is Python that runs one."""
    name = Path(command[0]).name
    return f"{name} -m {command[2]}" if command[1:2] == ["-m"] and len(command) > 2 else name
