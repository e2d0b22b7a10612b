"""What the server logs: one JSON object a line on stderr, and the same lines in a file that is kept small.

    {"time": "2026-01-02T03:04:05.678+00:00", "level": "info", "logger": "runtime.dispatcher",
     "message": "video_0f3a…: completed in 12.3 s", "job": "video_0f3a…", "event": "completed"}

`job` stands where a line is about one, `event` where programs look for it, `error` is a traceback. On a terminal the
lines are readable ones. What libraries and the worker write past the log becomes lines of it (logger "stderr"). No key
gets into any of them, nor what looks like one. Standard library alone: who reads the file imports this too.
"""

import hashlib
import json
import logging
import os
import re
import select
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timezone
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, TextIO

__all__ = ["SERIOUS", "Logs", "entry", "kept_files", "last", "last_errors", "logging_to_stderr", "readable", "redact"]

_FILE_BYTES = 5_000_000
#: Older files beside the one that is written.
_OLDER = 3
#: Of errors that are kept in memory, for a summary.
_ERRORS = 5
#: What comes within so many seconds is one line of the log: a traceback is written in pieces.
_BURST_SECONDS = 0.05
_MOST_BYTES = 64 * 1024
#: The levels of what went wrong.
SERIOUS = frozenset({"error", "critical"})
_OF_OTHERS = logging.getLogger("stderr")

_VALUE = r"[^\s\"',;&]+"
_SECRETS = (
    (re.compile(rf"\b(bearer|basic)\s+{_VALUE}", re.IGNORECASE), r"\1 ***"),
    (
        re.compile(
            r"(\b[\w.-]*(?:api[_-]?key|token|secret|passw(?:or)?d|credential)[\"']?\s*[=:]\s*[\"']?)" + _VALUE,
            re.IGNORECASE,
        ),
        r"\1***",
    ),
    (re.compile(r"\b(?:hf|sk|gh[opsu]|github_pat|glpat|xox[abps])[_-][\w-]{8,}"), "***"),
    (re.compile(r"\bAKIA[0-9A-Z]{16}\b"), "***"),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"), "***"),
    (re.compile(r"(?<=://)[^/\s@]+@"), "***@"),
)


def redact(text: str) -> str:
    """The text without what looks like a key, a token or a password."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


class _Hidden:
    """A secret that is found in a text though only its length and hash are kept."""

    def __init__(self, secret: str) -> None:
        self._length, self._digest = len(secret), _digest(secret)

    def redact(self, text: str) -> str:
        """The text without the secret."""
        at = 0
        while at + self._length <= len(text):
            if _digest(text[at : at + self._length]) == self._digest:
                text = text[:at] + "***" + text[at + self._length :]
            at += 1
        return text


class _Lines(logging.Formatter):
    """A record as one JSON object."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden: list[_Hidden] = []

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        told: dict[str, str] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._harmless(record.getMessage()),
        }
        for name in ("job", "event"):
            if value := getattr(record, name, None):
                told[name] = str(value)
        if record.exc_info:
            told["error"] = self._harmless(self.formatException(record.exc_info))
        return json.dumps(told, ensure_ascii=False)

    def _harmless(self, text: str) -> str:
        for hidden in self.hidden:
            text = hidden.redact(text)
        return redact(text)


class _Readable(logging.Formatter):
    """The same for a person."""

    def __init__(self, lines: _Lines) -> None:
        super().__init__()
        self._lines = lines

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        return readable(self._lines.format(record))


class _Kept(RotatingFileHandler):
    """The file, which its owner alone can read. That it cannot be written is no reason to stop: stderr has the line."""

    def _open(self) -> Any:
        return open(self.baseFilename, self.mode, encoding="utf-8", errors="replace", opener=_private)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """What goes wrong here must not be logged here."""

    def close(self) -> None:
        """Lets go of the file, whatever of it the disk had no room for."""
        with suppress(OSError):
            super().close()


class _Errors(logging.Handler):
    """The last errors, in memory."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: deque[str] = deque(maxlen=_ERRORS)

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps the line."""
        self.lines.append(self.format(record))


class Logs:
    """The log of this process, while `logging_to_stderr` holds."""

    def __init__(self, stream: TextIO) -> None:
        self._lines = _Lines()
        self._stderr = logging.StreamHandler(stream)
        self._stderr.setFormatter(_Readable(self._lines) if stream.isatty() else self._lines)
        self._errors = _Errors()
        self._errors.setFormatter(self._lines)
        self._handlers: list[logging.Handler] = []
        self._add(self._stderr)
        self._add(self._errors)

    @property
    def errors(self) -> tuple[str, ...]:
        """The last lines about errors, the newest last."""
        return tuple(self._errors.lines)

    def hide(self, secret: str) -> None:
        """Has a secret replaced wherever it stands in a line; it is not kept itself."""
        if secret:
            self._lines.hidden.append(_Hidden(secret))

    def keep(self, path: Path) -> None:
        """Has the lines from now on kept in a file as well. One process at a time may write it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = _Kept(path, maxBytes=_FILE_BYTES, backupCount=_OLDER)
        handler.setFormatter(self._lines)
        self._add(handler)

    def close(self) -> None:
        """Lets go of the file."""
        for handler in self._handlers:
            logging.getLogger().removeHandler(handler)
            handler.close()

    def _add(self, handler: logging.Handler) -> None:
        self._handlers.append(handler)
        logging.getLogger().addHandler(handler)


@contextmanager
def logging_to_stderr() -> Iterator[Logs]:
    """Sends what is logged to stderr, and what this process and its children write to stderr into the log."""
    logging.getLogger().setLevel(logging.INFO)
    logging.raiseExceptions = False  # a line that nobody can take is no reason to write about it to the same place
    with ExitStack() as opened:
        sys.stderr.flush()
        real = opened.enter_context(os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace", buffering=1))
        logs = Logs(real)
        opened.callback(logs.close)
        opened.enter_context(_taking_in_the_rest(real.fileno()))
        yield logs


@contextmanager
def _taking_in_the_rest(real: int) -> Iterator[None]:
    """Whatever is written to descriptor 2, by whom ever, is logged; at the end it is as it was."""
    reader, writer = os.pipe()
    ended, end = os.pipe()
    os.dup2(writer, 2)
    os.close(writer)
    thread = threading.Thread(target=_take_in, args=(reader, ended), name="stderr", daemon=True)
    thread.start()
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(real, 2)
        os.close(end)
        thread.join()
        for descriptor in (reader, ended):
            os.close(descriptor)


def _take_in(reader: int, ended: int) -> None:
    os.set_blocking(reader, False)
    at_end = False
    while not at_end:
        at_end = ended in select.select([reader, ended], [], [])[0]
        if text := _burst(reader).decode(errors="replace").strip():
            level = logging.ERROR if "Traceback (most recent call last)" in text else logging.WARNING
            _OF_OTHERS.log(level, "%s", text)


def _burst(reader: int) -> bytes:
    """All that is there, and what comes right after it."""
    data = b""
    while len(data) < _MOST_BYTES and select.select([reader], [], [], _BURST_SECONDS if data else 0)[0]:
        more = os.read(reader, _MOST_BYTES)
        if not more:
            break
        data += more
    return data


def entry(line: str) -> Mapping[str, Any] | None:
    """What a line says; None if it is none of ours."""
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) and "message" in told and "level" in told else None


def readable(line: str) -> str:
    """A line for a person, with the local time; one that is none of ours stays as it is."""
    told = entry(line)
    if told is None:
        return line
    level = "" if told["level"] == "info" else f"{str(told['level']).upper()} "
    error = f"\n{told['error']}" if told.get("error") else ""
    return f"{_clock(str(told.get('time', '')))} {level}{told['message']}{error}".strip()


def kept_files(path: Path) -> list[Path]:
    """The log file and the older ones beside it, as far as they are there, the oldest first."""
    every = [*(path.with_name(f"{path.name}.{number}") for number in range(_OLDER, 0, -1)), path]
    return [one for one in every if one.is_file()]


def last(files: Iterable[Path], count: int, levels: frozenset[str] | None = None) -> list[str]:
    """The last lines of some files, the oldest first; of these levels, if some are given."""
    found: deque[str] = deque(maxlen=count)
    for one in files:
        with one.open(encoding="utf-8", errors="replace") as file:
            lines = (line.rstrip("\n") for line in file)
            found.extend(line for line in lines if levels is None or (entry(line) or {}).get("level") in levels)
    return list(found)


def last_errors(path: Path, count: int) -> list[str]:
    """The last lines about errors in a log file and the older ones beside it, the oldest first."""
    return last(kept_files(path), count, SERIOUS)


def _clock(time: str) -> str:
    try:
        return datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return time


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogateescape")).digest()
