"""What a server that we started writes, shown as it comes: readable on a terminal, as it is in a file or a pipe."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import suppress
from types import TracebackType

from bootstrap.console import Console
from runtime import logs

_STYLES = {"warning": "yellow", "error": "red", "critical": "red"}


class Output:
    """Shows lines in the background. Leave the block after the process has ended: the last lines come then."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Output:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._thread:
            self._thread.join()

    def follow(self, child: subprocess.Popen[str]) -> None:
        """Show what the process writes to stderr, from now on to its end."""
        self._thread = threading.Thread(target=self._follow, args=(child,), name="server-output", daemon=True)
        self._thread.start()

    def _follow(self, child: subprocess.Popen[str]) -> None:
        assert child.stderr is not None
        with child.stderr as lines:
            for line in lines:
                with suppress(OSError):  # nobody reads us any more: the server must not wait for that
                    self._show(line.rstrip("\n"))

    def _show(self, line: str) -> None:
        told = logs.entry(line)
        if self._console.quiet and told is not None and told["level"] not in logs.SERIOUS:
            return
        if self._console.quiet or not self._console.err.is_terminal:
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()
        elif told is None or told.get("event") != "phase":  # those are shown by whoever waits for the server
            self._console.say(logs.readable(line), _STYLES.get(str(told["level"]), "dim") if told else "")
