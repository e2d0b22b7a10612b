"""Docker engines of a test's own: of another age, or with a small disk. They leave those beside them alone.

`I2V_TEST_ENGINE_ROOT` names the directory that holds the system with an engine's programs, where this one has none; it
has to share /tmp with this one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(os.environ.get("I2V_TEST_ENGINE_ROOT") or "/")
# The disk is mounted where nobody else sees it, so it goes with the engine, however that ends.
_ON_A_DISK_OF_ITS_OWN = 'mount -t tmpfs -o "size=$1" none "$2" && shift 2 && exec dockerd "$@"'


@contextmanager
def an_engine(megabytes: int, *, apart: bool = False, programs: Path = ROOT) -> Iterator[str]:
    """The address of a new engine; where none can be started, skip the test.

    Args:
        megabytes: The size of its disk.
        apart: It has a network of its own, so that it does not reach this machine's loopback.
        programs: Packages with an engine of another age, unpacked below /tmp.
    """
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "ip"))):
        pytest.skip("starting an engine needs root, unshare and ip")
    if not shutil.which("dockerd", path=f"{programs}/usr/bin:{programs}/usr/sbin"):
        pytest.skip("no dockerd here, and I2V_TEST_ENGINE_ROOT names no system with one")
    # A short name: an engine makes sockets deep below, whose paths may have 104 characters.
    directory = Path(tempfile.mkdtemp(prefix="i2v-", dir="/tmp"))
    try:
        with _bridge(apart=apart) as bridge, _engine(directory, f"{megabytes}m", bridge, programs, apart=apart):
            yield f"unix://{directory}/socket"
    finally:
        shutil.rmtree(directory)


@contextmanager
def _engine(directory: Path, size: str, bridge: str, programs: Path, *, apart: bool) -> Iterator[None]:
    data, log = directory / "data", directory / "log"
    data.mkdir()
    options = [f"--host=unix://{directory}/socket", f"--data-root={data}", f"--exec-root={directory}/exec"]
    options += [f"--pidfile={directory}/pid", f"--bridge={bridge}", "--iptables=false", "--ip-masq=false"]
    command = ["unshare", "--mount", *(["--net"] if apart else []), "chroot", str(ROOT)]
    command += ["sh", "-c", _ON_A_DISK_OF_ITS_OWN, "sh", size, str(data), *options]
    environment = dict(os.environ)
    if programs != ROOT:
        environment["PATH"] = f"{programs}/usr/sbin:{programs}/usr/bin:{os.environ['PATH']}"
        environment["LD_LIBRARY_PATH"] = ":".join(map(str, programs.glob("*lib/*-linux-gnu")))
    with (
        log.open("wb") as output,
        subprocess.Popen(command, env=environment, stdout=output, stderr=output) as process,
    ):
        try:
            while not (directory / "socket").exists():
                assert process.poll() is None, log.read_text()
                time.sleep(0.05)
            yield
        finally:
            process.terminate()


@contextmanager
def _bridge(*, apart: bool) -> Iterator[str]:
    """The bridge for an engine: in this network never the default one, which another engine may have."""
    if apart:
        yield "none"
        return
    name = f"i2v{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True)
    try:
        subprocess.run(["ip", "addr", "add", "172.31.93.1/24", "dev", name], check=True)
        yield name
    finally:
        subprocess.run(["ip", "link", "delete", name], check=True)
