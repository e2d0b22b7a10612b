"""The threads that carry out the schedule: one for each connection, and a watch that ends what takes too long.

Knows nothing of hashes or stores: what comes in is handed to the sink of its file.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from mirrors.fetching.schedule import Schedule
from mirrors.fetching.transfer import Answer, PastTheEnd, SourceFault, ask
from mirrors.fetching.work import CONNECTIONS, Job, Mirror, Piece, Rank, Source
from mirrors.http import HttpSettings
from mirrors.interrupt import Interrupt, Interrupted

TICK = 0.1  # seconds between two looks of the watch
VISIT = 5.0  # seconds that a mirror gets for the bytes of one comparison, beside those that they take at this pace:
VISIT_RATE = 1 << 18  # bytes/s
CLOSING = 5.0  # seconds that all threads get to end; they need milliseconds

_Inbox = queue.SimpleQueue["Piece | None"]


class Sink(Protocol):
    """Where the bytes of one file go. Called by many threads at once."""

    def accept(self, total: int | None, source: Source) -> None:
        """Check the size that a source says the file has; raises SourceFault, or Interrupted if others are believed."""

    def past_the_end(self) -> bool:
        """A source says that the file ends before the piece; whether that is no fault of it."""

    def write(self, offset: int, block: bytes | memoryview, netloc: str) -> None:
        """Keep bytes; raises MirrorError if the disk does not take them."""

    def moved(self) -> None:
        """Something changed for this file. The crew's lock is held."""

    def broken(self, error: Exception) -> None:
        """The file cannot be kept. The crew's lock is held."""


class Crew:
    """Connections to all mirrors. `lock` guards the schedule and all that hangs on it."""

    def __init__(self, http: HttpSettings, schedule: Schedule) -> None:
        self.lock = threading.RLock()
        self.schedule = schedule
        self.closing = False
        self._http = http
        self._sinks: dict[Job, Sink] = {}
        self._idle: dict[str, list[_Inbox]] = {}
        self._inboxes: list[_Inbox] = []
        self._threads: list[threading.Thread] = []
        self._interrupts: dict[Piece, Interrupt] = {}
        self._visits: dict[Interrupt, float] = {}  # until when
        self._freed = threading.Condition(self.lock)
        self._closed = threading.Event()

    def start(self, look: Callable[[], None]) -> None:
        """Let the watch begin; it calls `look` at every tick, with the lock held."""
        self.spawn(lambda: self._watch(look), "i2v-watch")

    def spawn(self, run: Callable[[], None], name: str) -> None:
        """Start a thread that `close` waits for."""
        thread = threading.Thread(target=run, name=name, daemon=True)
        with self.lock:
            self._threads = [*filter(threading.Thread.is_alive, self._threads), thread]
            thread.start()

    def close(self) -> None:
        """Break off all transfers. What came in has been handed over."""
        with self.lock:
            self.closing = True
            self._closed.set()
            for interrupt in (*self._interrupts.values(), *self._visits):
                interrupt.cut()
            for inbox in self._inboxes:
                inbox.put(None)
            for sink in self._sinks.values():
                sink.moved()
            self._freed.notify_all()
            threads = self._threads
        deadline = time.monotonic() + CLOSING
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))

    def begin(self, job: Job, sink: Sink) -> None:
        """Bring a file's missing bytes."""
        with self.lock:
            self._sinks[job] = sink
            self.schedule.jobs.append(job)
            self.dispatch()

    def end(self, job: Job) -> None:
        """Bring no more of that file; no byte of it is handed over afterwards."""
        with self.lock:
            self.schedule.jobs.remove(job)
            for piece in job.pieces:
                piece.cut = True
                self._interrupts[piece].cut()
            self._freed.wait_for(lambda: not job.pieces)
            del self._sinks[job]

    def dispatch(self) -> None:
        """Hand out the work that can be begun now, and break off what must end. The lock is held."""
        if self.closing:
            return
        now = time.monotonic()
        for piece in self.schedule.assign(now):
            self._interrupts[piece] = Interrupt()
            idle = self._idle.setdefault(piece.source.mirror.netloc, [])
            (idle.pop() if idle else self._connect()).put(piece)
        for piece in self.schedule.overdue(now):
            self._interrupts[piece].cut()

    def read(self, source: Source, start: int, end: int) -> bytes:
        """Bytes of a file as a source serves them now, for a comparison. They count as received.

        Raises:
            SourceFault: it does not give them.
            Interrupted: the crew is closing.
        """
        with self._visit(source.mirror, VISIT + (end - start) / VISIT_RATE) as interrupt:
            try:
                with ask(source.url, start, end, self._http, interrupt) as answer:
                    content = _exactly(answer, start, end)
            except Interrupted:
                if self.closing:
                    raise
                raise SourceFault("is slow", "later") from None
        return content

    @contextmanager
    def _visit(self, mirror: Mirror, seconds: float) -> Iterator[Interrupt]:
        """One of the connections that a mirror may get, for the calling thread, for so long."""
        interrupt = Interrupt()
        with self.lock:
            mirror.visitors += 1
            self._freed.wait_for(lambda: self.closing or mirror.connections + mirror.visitors <= CONNECTIONS)
            self._visits[interrupt] = time.monotonic() + seconds
            if self.closing:
                interrupt.cut()
        try:
            yield interrupt
        finally:
            with self.lock:
                mirror.visitors -= 1
                del self._visits[interrupt]
                self._freed.notify_all()
                self.dispatch()

    def _watch(self, look: Callable[[], None]) -> None:
        while not self._closed.wait(TICK):
            with self.lock:
                look()
                self.dispatch()
                for sink in self._sinks.values():
                    sink.moved()
                for interrupt, until in self._visits.items():
                    if time.monotonic() > until:
                        interrupt.cut()

    def _connect(self) -> _Inbox:
        inbox: _Inbox = queue.SimpleQueue()
        self._inboxes.append(inbox)
        self.spawn(lambda: self._serve(inbox), "i2v-connection")
        return inbox

    def _serve(self, inbox: _Inbox) -> None:
        """One connection: bring one piece after the other."""
        while (piece := inbox.get()) is not None:
            fault = self._bring(piece)
            with self.lock:
                wait = random.uniform(0.5, 1)  # noqa: S311
                self.schedule.finish(piece, fault, time.monotonic(), wait)
                del self._interrupts[piece]
                self._idle[piece.source.mirror.netloc].append(inbox)
                self._freed.notify_all()
                self._sinks[piece.job].moved()
                self.dispatch()

    def _bring(self, piece: Piece) -> SourceFault | None:
        """Bring one piece; what the source did wrong, if it did."""
        source = piece.source
        address = source.direct or source.url
        with self.lock:
            sink, interrupt = self._sinks[piece.job], self._interrupts[piece]
            start, end = (0, None) if piece.whole else (piece.start, piece.end)
            if piece.start >= piece.end:  # all of it was taken over meanwhile
                return None
        try:
            with ask(address, start, end, self._http, interrupt) as answer:
                source.direct = answer.url
                sink.accept(answer.total, source)
                self._settle(piece, answer)
                self._copy(piece, answer, sink)
        except Interrupted:
            return piece.sentence
        except PastTheEnd as fault:
            return None if sink.past_the_end() else fault
        except SourceFault as fault:
            source.direct = None  # a signed address may have run out; the next request asks for a new one
            return fault if address == source.url else None
        except Exception as error:  # noqa: BLE001  # it ends this file, not the others
            with self.lock:
                sink.broken(error)
        return None

    def _settle(self, piece: Piece, answer: Answer) -> None:
        """What to do with a source that sends everything where a range was asked for."""
        if answer.ranged:
            return
        job, source = piece.job, piece.source
        with self.lock:
            source.rank = max(source.rank, Rank.WHOLE)
            if job.team(time.monotonic())[:1] != [source] or any(other.whole for other in job.pieces if other != piece):
                if answer.start != piece.start:
                    raise Interrupted  # others serve ranges, or this one already sends everything
                return
            piece.whole = True

    def _copy(self, piece: Piece, answer: Answer, sink: Sink) -> None:
        position, netloc = answer.start, piece.source.mirror.netloc
        for block in answer.blocks:
            with self.lock:
                if piece.whole:
                    self.schedule.widen(piece)
                first, last = self.schedule.take(piece, position, len(block), time.monotonic())
            if first < last:
                whole_block = last - first == len(block)
                sink.write(position + first, block if whole_block else memoryview(block)[first:last], netloc)
                with self.lock:
                    piece.done = piece.taken
                    sink.moved()
            position += len(block)
            if piece.done >= piece.end:
                return
        if piece.done < piece.end:
            raise SourceFault(f"ends after {position} bytes", "now")


def _exactly(answer: Answer, start: int, end: int) -> bytes:
    content, position = bytearray(), answer.start
    for block in answer.blocks:
        content += block[max(0, start - position) :]
        position += len(block)
        if position >= end:
            return bytes(content[: end - start])
    raise SourceFault(f"ends after {position} bytes", "now")
