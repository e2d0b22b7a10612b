"""A process that does something with a job store, and is killed before its n-th call out of Python, for any n.

`python -m tests.runtime.killed_store ACTION PREPARED WORK` copies the directory PREPARED to WORK/1, WORK/2 and so on,
and in each a child of its own does the action, killed one call later each time (of those into the kernel or SQLite),
until one comes to its end. For each it prints `killed` or `done` and what the child acknowledged.
"""

import io
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from runtime.jobs import Job, JobStore
from runtime.models import model
from runtime.options import build_request

REQUEST = build_request("preview", model=model("demo"), seed=1)


def prepared(root: Path) -> None:
    """A store with a job that runs, one that waits, and two that have their videos."""
    with_store = JobStore(root)
    for number in range(4):
        with_store.add("demo", REQUEST, b"the picture", key=f"key {number}")
    for _ in range(2):
        _finish(with_store)
    with_store.claim()
    with_store.close()


def _finish(store: JobStore) -> Job:
    job = store.claim()
    assert job is not None
    store.video(job).write_bytes(b"the video")
    store.finish(job, {"denoise": 1.0})
    return job


def _add(root: Path) -> str:
    store = JobStore(root)
    return store.add("demo", REQUEST, b"another picture", key="a new key").id


def _work(root: Path) -> str:
    """The job that was interrupted: begun again, given back half-written, begun again and finished."""
    store = JobStore(root)
    job = store.claim()
    assert job is not None
    store.video(job).with_name(f".{store.video(job).name}.1.part").write_bytes(b"the vi")
    store.give_back(job, counts=True)
    return _finish(store).id


def _cancel(root: Path) -> str:
    store = JobStore(root)
    job = store.claim()
    assert job is not None
    store.video(job).write_bytes(b"too late")
    store.cancel(job.id)
    store.finish(job, {})
    return job.id


def _sweep(root: Path) -> str:
    store = JobStore(root, keep_bytes=9)
    return str(store.sweep())


def _remove(root: Path) -> str:
    store = JobStore(root)
    job = store.with_key("key 0")
    assert job is not None
    store.remove(job.id)
    return job.id


ACTIONS: Mapping[str, Callable[[Path], str]] = {
    "add": _add,
    "work": _work,
    "cancel": _cancel,
    "sweep": _sweep,
    "remove": _remove,
}


def _main(action: str, source: Path, work: Path) -> None:
    number, killed = 0, True
    while killed:
        number += 1
        at = work / str(number)
        shutil.copytree(source, at)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            _count(number)
            said = ACTIONS[action](at)
            sys.setprofile(None)
            os.write(writing, said.encode())
            os._exit(0)
        os.close(writing)
        said = os.read(reading, 1000).decode()
        os.close(reading)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, -signal.SIGKILL), status
        killed = status != 0
        print("killed" if killed else "done", said, flush=True)  # noqa: T201


def _count(number: int) -> None:
    """Kill this process before its call of that number."""
    calls = 0

    def hook(_frame: Any, event: str, function: Any) -> None:
        nonlocal calls
        if event == "c_call" and _leaves_python(function):
            calls += 1
            if calls == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(hook)


def _leaves_python(function: Any) -> bool:
    in_module = function.__module__ in ("posix", "fcntl", "_sqlite3") or function is io.open
    return in_module or isinstance(function.__self__, io.IOBase | sqlite3.Connection | sqlite3.Cursor)


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
