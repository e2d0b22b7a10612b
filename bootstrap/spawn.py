"""The one place from which this folder starts processes.

Called qualified (`spawn.run`, `spawn.process`), so that there is one name to look for. Never a shell; never a secret
among the arguments, which every user of the machine can read: those go in by file or environment.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO

_GRACE = 10.0  # seconds between SIGTERM and SIGKILL
_TAIL = 30  # lines of output kept for an error message


@dataclass(frozen=True)
class Finished:
    """How a process ended: its exit code (negative: the signal) and what it printed."""

    code: int
    output: str


class ProgramMissing(Exception):
    """The program is not there, or cannot be executed."""


def probe(args: Sequence[str], timeout: float = 5.0) -> str | None:
    """What a quick, harmless command prints, or None if it is missing, fails or takes longer than `timeout` seconds."""
    try:
        done = subprocess.run(
            list(args),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def run(
    args: Sequence[str], *, env: Mapping[str, str] | None = None, on_line: Callable[[str], None] | None = None
) -> Finished:
    """Run to the end; each line of stdout and stderr goes to `on_line`, the last ones into the result.

    Raises:
        ProgramMissing: the program cannot be started.
    """
    with process(args, env=env, stderr=subprocess.STDOUT) as child:
        tail: deque[str] = deque(maxlen=_TAIL)
        for line in lines(child):
            tail.append(line)
            if on_line is not None:
                on_line(line)
        return Finished(child.wait(), "\n".join(tail))


def lines(child: subprocess.Popen[str]) -> Iterator[str]:
    """The lines that a process prints on stdout, as they come."""
    assert child.stdout is not None
    for line in child.stdout:
        yield line.rstrip("\n")


@contextmanager
def process(
    args: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    stdout: int | IO[str] = subprocess.PIPE,
    stderr: int | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """A child in a process group of its own, which is ended when the block is left in any way.

    `env` is added to this process's environment.
    """
    try:
        child = subprocess.Popen(
            list(args),
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise ProgramMissing(f"{args[0]} cannot be started: {error.strerror}") from error
    try:
        yield child
    finally:
        end(child)
        if child.stdout is not None:
            child.stdout.close()


def end(child: subprocess.Popen[str]) -> int:
    """Ask the child's whole group to end, insist after 10 s; its exit code."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        if child.poll() is not None:
            break
        with suppress(ProcessLookupError):
            os.killpg(child.pid, sign)
        with suppress(subprocess.TimeoutExpired):
            child.wait(_GRACE)
    return child.wait()
