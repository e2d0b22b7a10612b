"""Several pieces of work on registries at once, in threads that end with the one that waits for them.

What the threads tell is told in the thread that waits, so whoever listens needs no locks. A failure of one, or an
interrupt of the waiting thread, ends all: their requests are hung up on. Knows nothing of what the work is.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from images.calls import Calls

THREADS = 4
_END_SECONDS = 0.8  # a thread that still waits for a name server or a connection is left to end by itself

Result = TypeVar("Result")
Tell = Callable[[int], None]


def in_parallel(work: Sequence[Callable[[Tell], Result]], on_told: Tell) -> list[Result]:
    """Do all of it; the results, in the same order.

    Args:
        work: each is called with a function to tell how much it got done.
        on_told: called with that, in this thread.

    Raises:
        BaseException: The first that any of the work raised.
    """
    crew = _Crew(work)
    try:
        crew.start()
        return crew.results(on_told)
    finally:
        crew.end()


class _Crew(Generic[Result]):
    def __init__(self, work: Sequence[Callable[[Tell], Result]]) -> None:
        self._calls = Calls()
        self._told: queue.SimpleQueue[int | tuple[int, Result] | BaseException] = queue.SimpleQueue()
        self._left = list(enumerate(work))[::-1]
        self._count = len(work)
        self._threads = [
            threading.Thread(target=self._run, name="i2v-registry", daemon=True)
            for _ in range(min(THREADS, self._count))
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def results(self, on_told: Tell) -> list[Result]:
        done: dict[int, Result] = {}
        while len(done) < self._count:
            news = self._told.get()
            if isinstance(news, BaseException):
                raise news
            if isinstance(news, int):
                on_told(news)
            else:
                done[news[0]] = news[1]
        return [done[number] for number in range(self._count)]

    def end(self) -> None:
        self._left.clear()
        self._calls.end()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(_END_SECONDS)

    def _run(self) -> None:
        self._calls.follow()
        while True:
            try:
                number, work = self._left.pop()
            except IndexError:
                return
            try:
                self._told.put((number, work(self._told.put)))
            except BaseException as error:  # noqa: BLE001  # raised again by the thread that waits
                self._told.put(error)
                return
