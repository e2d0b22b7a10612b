"""A process that edits configuration files and is killed at the n-th step of it, for any n.

`Killer` starts this module as a process, which forks a child for each edit. Where strace may be used, it kills the
child on entering its n-th system call of a kind; otherwise the child kills itself before its n-th call into the C
functions that make such system calls.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from bootstrap import configs
from tests.mirrors.loopback import until

Action = Literal["apply", "undo", "recover"]
NAMES = ("pip.conf", "uv.toml", "new/deep/.condarc")
OLD: dict[str, bytes | None] = {"pip.conf": b"old pip", "uv.toml": b"old uv", "new/deep/.condarc": None}
NEW: dict[str, bytes | None] = {name: b"new " + name.encode() for name in NAMES}

_ROOT = Path(__file__).parent.parent.parent
# All that can change a file or a directory; a ? is before those that not every machine has.
_SYSTEM_CALLS = (
    *("?open", "openat", "?creat", "write", "?pwrite64", "ftruncate", "fsync", "flock", "utimensat"),
    *("?rename", "?renameat", "?renameat2", "?unlink", "unlinkat", "?rmdir", "?mkdir", "mkdirat", "?link", "linkat"),
    *("?chmod", "fchmod", "fchmodat", "?chown", "fchown", "setxattr", "lsetxattr"),
)


def edits(at: Path) -> list[configs.Edit]:
    return [configs.Edit(at / name, (NEW[name] or b"").decode()) for name in NAMES]


def seen(at: Path) -> dict[str, bytes | None]:
    return {name: (at / name).read_bytes() if (at / name).exists() else None for name in NAMES}


class Killer:
    """The process; use it as a context manager."""

    def __init__(self) -> None:
        self._calls = _SYSTEM_CALLS if _may_trace() else ("",)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bootstrap.killable"],
            cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __enter__(self) -> Killer:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def steps(self, action: Action, prepared: Iterator[Path]) -> Iterator[Path]:
        """Do the action in one directory after the other, each time killed one step later, and once to the end."""
        for call in self._calls:
            number, killed = 1, True
            while killed:
                at = next(prepared)
                killed = self._kill(action, at, call, number)
                yield at
                number += 1

    def _kill(self, action: Action, at: Path, call: str, number: int) -> bool:
        pid = int(self._asked([action, str(at), 0 if call else number]))
        tracer = _trace(pid, call, number) if call else None
        answer = self._asked("go")
        assert answer in ("killed", "done"), answer
        if tracer is not None:
            tracer.communicate()
        return answer == "killed"

    def _asked(self, question: Any) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


def _trace(pid: int, call: str, number: int) -> subprocess.Popen[str]:
    """strace on a process, which is under its control when this returns."""
    wanted = ("-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={number}")
    tracer = subprocess.Popen(["strace", "-qq", "-o", os.devnull, *wanted, "-p", str(pid)], text=True)
    status = Path(f"/proc/{pid}/status")
    until(lambda: f"TracerPid:\t{tracer.pid}\n" in status.read_text() or tracer.poll() is not None)
    return tracer


def _may_trace() -> bool:
    """Whether strace is here and may be used."""
    if shutil.which("strace") is None:
        return False
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, text=True) as other:
        tracer = _trace(other.pid, "write", 1)
        return other.communicate("x")[0] is None and other.returncode == -signal.SIGKILL and tracer.wait() is not None


def _main() -> None:
    for line in sys.stdin:
        action, at, number = json.loads(line)
        start, go = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(go)
            os.read(start, 1)
            _count(number)
            _act(action, Path(at))
            sys.setprofile(None)
            os._exit(0)
        print(pid, flush=True)  # noqa: T201
        sys.stdin.readline()
        os.close(start)
        os.close(go)
        status = os.waitpid(pid, 0)[1]
        print("killed" if os.WIFSIGNALED(status) else "done" if status == 0 else "failed", flush=True)  # noqa: T201


def _act(action: Action, at: Path) -> None:
    journal = at / "journal"
    if action == "apply":
        configs.apply(edits(at), journal)
    elif action == "undo":
        configs.undo(journal)
    else:
        configs.recover(journal)


def _count(number: int) -> None:
    """Kill this process before its call of that number; 0: somebody else does."""
    if number == 0:
        return
    calls = 0

    def hook(_frame: Any, event: str, function: Any) -> None:
        nonlocal calls
        if event == "c_call" and _reaches_the_kernel(function):
            calls += 1
            if calls == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(hook)


def _reaches_the_kernel(function: Any) -> bool:
    in_module = function.__module__ in ("posix", "fcntl") or function is io.open
    return in_module or isinstance(function.__self__, io.IOBase)


if __name__ == "__main__":
    _main()
