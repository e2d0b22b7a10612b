"""How long finished jobs are kept: a set time, and as many videos as a set room holds.

The time is counted by the age of the store, not by the wall clock, which people and time servers set: while a server
runs, the age grows with the monotonic clock; over an absence, with the wall clock, but by no more than half of the
time that is kept. So a clock that jumps removes nothing while the server runs, and one that was wrong at its start
removes nothing that was in the first half of its time. Knows nothing of the database or of files.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

KEEP_SECONDS = 7 * 24 * 3600.0
KEEP_BYTES = 10 * 10**9


@dataclass(frozen=True)
class Clock:
    """Where the time comes from: `wall` is what others call the time, `steady` only ever goes on."""

    wall: Callable[[], float] = time.time
    steady: Callable[[], float] = time.monotonic


@dataclass(frozen=True)
class Finished:
    """What decides how long a finished job is kept: the age of the store when it ended, and its video's size."""

    id: str
    ended_age: float
    video_bytes: int = 0


@dataclass(frozen=True)
class Retention:
    """What is kept; None: without limit."""

    seconds: float | None = KEEP_SECONDS
    video_bytes: int | None = KEEP_BYTES

    def expired(self, finished: Iterable[Finished], age: float) -> list[str]:
        """The ids of those whose time is over at this age of the store, or which there is no room for.

        The newest video always has room: else nobody could ever fetch one that is larger than all the room.

        Args:
            finished: From the newest to the oldest.
            age: In seconds.
        """
        gone, total = [], 0
        for job in finished:
            newest = total == 0
            total += job.video_bytes
            too_old = self.seconds is not None and age - job.ended_age >= self.seconds
            no_room = self.video_bytes is not None and total > self.video_bytes and job.video_bytes > 0 and not newest
            if too_old or no_room:
                gone.append(job.id)
        return gone

    def absence(self, seconds: float) -> float:
        """What counts of the seconds that, going by the wall clock, no server ran."""
        longest = seconds if self.seconds is None else self.seconds / 2
        return min(max(seconds, 0.0), longest)
