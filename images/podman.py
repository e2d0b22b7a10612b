"""Podman where no Docker engine answers: it speaks Docker's language at a socket while its command is told to.

The socket and the process behind it are ours, and go when they are let go; containers and images stay where Podman
keeps them. Knows nothing of what is said at the socket.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from images.errors import EngineUnavailable

HINT = "see whether it works at all: podman info"
_IDLE_SECONDS = 120  # after which it ends by itself, should we be killed
_START_SECONDS = 30.0
_LOOK_SECONDS = 0.05


class Service:
    """Podman's command, answering at `address`, until it is closed."""

    def __init__(self, command: str) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="i2v-podman-"))
        self._socket = self._directory / "socket"
        self.address = f"unix://{self._socket}"
        arguments = [command, "system", "service", f"--time={_IDLE_SECONDS}", self.address]
        with (self._directory / "said").open("wb") as said:
            # In a session of its own, since Ctrl-C is for us: we still have a container to stop then.
            self._process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
            )

    def wait(self) -> None:
        """Wait until it answers.

        Raises:
            EngineUnavailable: It does not.
        """
        end = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                lines = (self._directory / "said").read_text(errors="replace").splitlines()
                reason = lines[-1].strip() if lines else "it says nothing"
                raise EngineUnavailable(f"Podman does not serve: {reason}", HINT)
            time.sleep(_LOOK_SECONDS)

    def close(self) -> None:
        """End the process, and remove what it had."""
        self._process.terminate()
        self._process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _answers(self) -> bool:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(self._socket))
            return True
        return False


def command() -> str | None:
    """Podman's command, if it is here."""
    return shutil.which("podman")


def serve() -> Service:
    """Have Podman answer.

    Raises:
        EngineUnavailable: It is not here, or does not work.
    """
    found = command()
    if found is None:
        raise EngineUnavailable("the podman command is not on the PATH", "install Podman, or take Docker")
    service = Service(found)
    try:
        service.wait()
    except BaseException:
        service.close()
        raise
    return service
