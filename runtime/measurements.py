"""What calls of the model took on this machine, kept on disk: the source of expected times and of measured peaks.

One SQLite file, the latest few hundred calls. It can be removed at any time: then
times are unknown and peaks are predicted until jobs have run. Standard library alone; knows nothing of how anything is
measured.
"""

import contextlib
import sqlite3
import statistics
import threading
import time
from dataclasses import astuple, dataclass, replace
from pathlib import Path

from runtime.footprint import Knobs
from runtime.messages import Call
from runtime.options import GenerationRequest
from runtime.problems import RuntimeProblem

_KEPT = 500
#: So many of the latest calls of one shape say how long the next one takes.
_ASKED = 5
_SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (
    number   INTEGER PRIMARY KEY AUTOINCREMENT,
    device   TEXT NOT NULL,
    model    TEXT NOT NULL,
    how      TEXT NOT NULL,
    width    INTEGER NOT NULL,
    height   INTEGER NOT NULL,
    frames   INTEGER NOT NULL,
    batch    INTEGER NOT NULL,
    knobs    TEXT NOT NULL,
    step     REAL,
    decode   REAL,
    encode   REAL,
    peak     INTEGER,
    ended_at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS calls_by_kind ON calls (device, model, how, number);
"""


@dataclass(frozen=True)
class Kind:
    """What calls are compared within: the device by its name, the model, and how it is loaded and computed."""

    device: str
    model: str
    how: str


@dataclass(frozen=True)
class Expected:
    """How long a video will take, in seconds; `sure` is False where it is scaled from another shape."""

    seconds: float
    sure: bool


class Measurements:
    """The file. Safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        """Opens or makes it; one that cannot be read is begun anew.

        Raises:
            RuntimeProblem: The place cannot be written.
        """
        self._mutex = threading.Lock()
        try:
            try:
                self._database = _open(path)
            except sqlite3.DatabaseError:
                path.unlink()  # only what can be measured again is lost
                self._database = _open(path)
        except (OSError, sqlite3.Error) as error:
            raise RuntimeProblem(f"cannot use {path}: {error}", "give another --data-dir") from error

    def close(self) -> None:
        """Lets go of the file."""
        with self._mutex:
            self._database.close()

    def add(self, kind: Kind, call: Call, encode: float | None = None) -> None:
        """Keeps what one call took."""
        request = call.request
        steps = request.num_inference_steps
        self._insert(kind, request, call.batch, call.knobs, call.denoise / steps, call.decode, encode, call.peak_bytes)

    def ran_out(self, kind: Kind, request: GenerationRequest, batch: int, knobs: Knobs, available: int) -> None:
        """Keeps that a call took more than `available` bytes beside the weights."""
        self._insert(kind, request, batch, knobs, None, None, None, available)

    def peak(self, kind: Kind, request: GenerationRequest, batch: int, knobs: Knobs) -> int | None:
        """The most bytes that such a call held beside the weights; None: not known."""
        with self._mutex:
            row = self._database.execute(
                "SELECT max(peak) FROM calls WHERE device = ? AND model = ? AND how = ? AND width = ? "
                "AND height = ? AND frames = ? AND batch = ? AND knobs = ? AND peak > 0",
                (*astuple(_of(kind, request)), *_shape(request), batch, repr(knobs)),
            ).fetchone()
        return int(row[0]) if row and row[0] else None

    def expected(self, kind: Kind, request: GenerationRequest) -> Expected | None:
        """How long such a video takes from the call to its file; None: nothing has been measured yet."""
        with self._mutex:
            rows = self._database.execute(
                "SELECT width, height, frames, batch, step, decode, encode FROM calls "
                "WHERE device = ? AND model = ? AND how = ? AND step IS NOT NULL ORDER BY number DESC",
                astuple(_of(kind, request)),
            ).fetchall()
        if not rows:
            return None
        volume = _volume(*_shape(request))
        same = [row for row in rows if tuple(row[:3]) == _shape(request)][:_ASKED]
        nearest = min(rows, key=lambda row: abs(_volume(*row[:3]) - volume))
        alike = same or [row for row in rows if tuple(row[:3]) == tuple(nearest[:3])][:_ASKED]
        scale = volume / _volume(*alike[0][:3])
        steps = request.num_inference_steps
        seconds = (row[4] / row[3] * steps + (row[5] / row[3]) + (row[6] or 0) for row in alike)
        return Expected(scale * statistics.median(seconds), bool(same))

    def _insert(
        self,
        kind: Kind,
        request: GenerationRequest,
        batch: int,
        knobs: Knobs,
        *took: float | None,
    ) -> None:
        values = (*astuple(_of(kind, request)), *_shape(request), batch, repr(knobs), *took, time.time())
        with self._mutex, contextlib.suppress(sqlite3.Error), self._database as database:  # it is only of use
            database.execute(
                "INSERT INTO calls (device, model, how, width, height, frames, batch, knobs, step, decode, encode, "
                "peak, ended_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                values,
            )
            database.execute("DELETE FROM calls WHERE number <= (SELECT max(number) FROM calls) - ?", (_KEPT,))


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, check_same_thread=False)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = OFF")
    database.executescript(_SCHEMA)
    return database


def _of(kind: Kind, request: GenerationRequest) -> Kind:
    """Fast calls make fewer steps or hold more, so they are compared with each other alone."""
    return replace(kind, how=f"{kind.how} fast") if request.fast else kind


def _shape(request: GenerationRequest) -> tuple[int, int, int]:
    return request.width, request.height, request.num_frames


def _volume(width: int, height: int, frames: int) -> int:
    return width * height * frames
