"""What the user sees: progress and messages on stderr, data on stdout.

On a terminal progress is drawn by rich; piped, each step is one plain line when it ends, and one before that if it
takes longer; `--quiet` shows errors only.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderableType
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.text import Text

from bootstrap.terminal import harmless

_PACE_SECONDS = 2.0  # over which the speed of bytes is taken
_SOON_SECONDS = 0.8  # until a piece of work is named that goes on
_PLAIN_SECONDS = 10.0  # between two lines about the same piece of work
_FILE_WIDTH = 160  # columns of what goes into a file or a pipe: nobody's window is too narrow for it


def _width(stream: TextIO) -> int | None:
    return None if stream.isatty() else _FILE_WIDTH


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)


class _Harmless(RichConsole):
    """Prints no control characters but its own: what is shown may come from a mirror, or be a name of anybody's."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """The segments of what is printed."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=harmless(segment.text))


class _Pace:
    """How fast bytes come, over the last few seconds."""

    def __init__(self) -> None:
        self._since, self._had, self._rate = time.monotonic(), 0, 0.0

    def told(self, done: int, total: int) -> str:
        """For people: 34.1 of 108 MB, 2.1 MB/s."""
        now = time.monotonic()
        if now - self._since >= _PACE_SECONDS:
            self._rate = max(0, done - self._had) / (now - self._since)
            self._since, self._had = now, done
        speed = f", {self._rate / 1e6:.1f} MB/s" if self._rate else ""
        return f"{done / 1e6:.1f} of {total / 1e6:.0f} MB{speed}"


class Task:
    """A piece of work under way, which may say how far it is."""

    def __init__(self, progress: Progress | None, task_id: Any = None) -> None:
        self._progress = progress
        self._id = task_id
        self._pace = _Pace()

    def advance(self, amount: float = 1) -> None:
        """So much more is done."""
        if self._progress is not None:
            self._progress.advance(self._id, amount)

    def at(self, done: float, total: float) -> None:
        """So much is done, of so much in all."""
        if self._progress is not None:
            self._progress.update(self._id, completed=done, total=total)

    def counting(self, total: int) -> Callable[[int], None]:
        """What to call with each change in how many of `total` bytes are here, from any thread."""
        lock, here = threading.Lock(), 0

        def count(change: int) -> None:
            nonlocal here
            with lock:
                here += change
                self.at(here, total)
                self.say(self._pace.told(here, total))

        return count

    def say(self, note: str) -> None:
        """What is being done right now."""
        if self._progress is not None:
            self._progress.update(self._id, note=note)


class _PlainTask(Task):
    """The same for a file or a pipe: a line now and then."""

    def __init__(self, title: str, say: Callable[[str], None]) -> None:
        super().__init__(None)
        self._title, self._say, self._last = title, say, time.monotonic()

    def say(self, note: str) -> None:
        """What is being done right now, if nothing was said for a while."""
        if time.monotonic() - self._last >= _PLAIN_SECONDS:
            self._last = time.monotonic()
            self._say(f"{self._title}: {note}")


class Console:
    """One command's voice."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        if sys.stdout is None:  # started with stdout closed
            sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for good
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="replace")  # a terminal that knows no such character shows a question mark
        self.err: RichConsole = _Harmless(stderr=True, highlight=False, width=_width(sys.stderr))
        self.out: RichConsole = _Harmless(highlight=False, width=_width(sys.stdout))

    def say(self, message: str, style: str = "") -> None:
        """One message for the person, on stderr."""
        if not self.quiet:
            self.err.print(Text(message, style=style), soft_wrap=True)

    def warn(self, message: str) -> None:
        """Something that the person should know although the command goes on."""
        self.say(f"warning: {message}", "yellow")

    def data(self, document: Any) -> None:
        """One JSON document on stdout; frozen dataclasses become objects."""
        sys.stdout.write(json.dumps(document, indent=2, default=_plain) + "\n")

    def table(self, table: RenderableType) -> None:
        """A table that was asked for, on stdout."""
        self.out.print(table)

    def show(self, table: RenderableType) -> None:
        """A table that goes along with the work, on stderr."""
        if not self.quiet:
            self.err.print(table)

    @contextmanager
    def working(self, title: str, total: float | None = None) -> Iterator[Task]:
        """Show that `title` is under way until the block ends. `total` None: no end in sight."""
        if self.quiet or not self.err.is_terminal:
            with self._plainly(title) as task:
                yield task
            return
        columns = (
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
        )
        with Progress(*columns, console=self.err) as progress:
            task_id = progress.add_task(title, total=total, note="")
            yield Task(progress, task_id)
            done = progress.tasks[0].total or 1
            progress.update(task_id, completed=done, total=done, note="")

    @contextmanager
    def _plainly(self, title: str) -> Iterator[Task]:
        started = time.monotonic()
        soon = threading.Timer(_SOON_SECONDS, self.say, (f"{title}: under way",))
        soon.daemon = True
        soon.start()
        try:
            yield _PlainTask(title, self.say)
        finally:
            soon.cancel()
            soon.join()
        self.say(f"{title}: {time.monotonic() - started:.1f} s")
