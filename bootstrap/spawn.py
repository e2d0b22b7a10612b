"""The one place from which this folder starts processes.

Called qualified (`spawn.run`, `spawn.process`), so that there is one name to look for. Never a shell; never a secret
among the arguments, which every user of the machine can read: those go in by file or environment.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO

NOT_FOR_CHILDREN = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")  # as in mirrors.hub_token, which is slow to import
_GRACE = 10.0  # seconds between SIGTERM and SIGKILL
_MOMENT = 0.5  # seconds that the kernel gets to end a killed process
_TAIL = 30  # lines of output kept for an error message

# 1 is PR_SET_PDEATHSIG. Whoever was orphaned before the request has another parent by now.
_LEASH = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, int(sys.argv[2]))
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[3], sys.argv[3:])
"""


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
        done = ask(args, timeout=timeout)
    except (ProgramMissing, TimeoutError):
        return None
    return done.output if done.code == 0 else None


def ask(args: Sequence[str], *, timeout: float, env: Mapping[str, str] | None = None) -> Finished:
    """How a quick, harmless command ends, and all that it prints on stdout. `env` is added to our environment.

    Never waits longer than `timeout` and a moment: a process that hangs in the kernel, which cannot be ended, is left.

    Raises:
        ProgramMissing: the program cannot be started. TimeoutError: it took too long.
    """
    child = _started(args, env, subprocess.PIPE, subprocess.DEVNULL)
    try:
        output, _ = child.communicate(timeout=timeout)
    except subprocess.TimeoutExpired as error:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        try:
            child.communicate(timeout=_MOMENT)
        except subprocess.TimeoutExpired:
            assert child.stdout is not None
            child.stdout.close()
            if child.poll() is None:
                child.returncode = -signal.SIGKILL  # as it will be, when the kernel lets go of it
        raise TimeoutError(f"{args[0]} did not answer within {timeout:g} s") from error
    return Finished(child.returncode, output)


def run(
    args: Sequence[str], *, env: Mapping[str, str | None] | None = None, on_line: Callable[[str], None] | None = None
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
    env: Mapping[str, str | None] | None = None,
    stdout: int | IO[str] = subprocess.PIPE,
    stderr: int | None = None,
    orphaned: signal.Signals = signal.SIGTERM,
) -> Iterator[subprocess.Popen[str]]:
    """A child in a process group of its own, which is ended when the block is left in any way, our own death included.

    `env` is added to this process's environment; a name whose value is None is left out of it. `orphaned` is what the
    kernel sends it when we were killed.
    """
    if shutil.which(args[0]) is None:
        raise ProgramMissing(f"{args[0]} is not there, or cannot be executed")
    child = _started([*_leash(orphaned), *args], env, stdout, stderr)
    try:
        yield child
    finally:
        end(child)
        if child.stdout is not None:
            child.stdout.close()


def _started(
    command: Sequence[str], env: Mapping[str, str | None] | None, stdout: int | IO[str], stderr: int | None
) -> subprocess.Popen[str]:
    """A child without our terminal, and in a session of its own, so that all of it can be ended."""
    try:
        return subprocess.Popen(
            list(command),
            env=_environment(env),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise ProgramMissing(f"{command[0]} cannot be started: {error.strerror}") from error


def _environment(added: Mapping[str, str | None] | None) -> dict[str, str]:
    """Ours with what is added, without what is None and without the model hub's token: no child has a use for that."""
    ours = {name: value for name, value in os.environ.items() if name not in NOT_FOR_CHILDREN}
    return {name: value for name, value in {**ours, **(added or {})}.items() if value is not None}


def _leash(orphaned: signal.Signals) -> list[str]:
    """What goes before a command so that the kernel ends it when we are killed; empty where the kernel cannot.

    A killed install would otherwise leave a uv behind that goes on writing where the next one builds. The request
    survives the exec; it is made in the child, since Python runs nothing safely between fork and exec. It holds for the
    thread that starts the child: start children in the main one.
    """
    command = [sys.executable, "-I", "-S", "-c", _LEASH, str(os.getpid()), str(int(orphaned))]
    return command if sys.platform == "linux" else []


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
