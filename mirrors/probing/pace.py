"""How fast bytes come in: a steady rate out of the blocks that some connections read. Pure arithmetic over a clock."""

from __future__ import annotations

import statistics
import time

_SHORTEST = 0.01  # seconds; over less than that the clock and the buffers say more than the mirror
_INSTANT = 1e-3
_MIDDLE = (0.25, 0.65)  # of the time, and of the bytes
_MANY, _FEW, _SHORT = 1 << 20, 1 << 16, 0.1  # bytes, bytes, seconds


class Pace:
    """The blocks that came in over one or several connections; these may be in threads of their own."""

    def __init__(self) -> None:
        self._opened: list[float] = []
        self._blocks: list[tuple[float, int]] = []
        self._closed: list[float] = []

    @property
    def total(self) -> int:
        """Bytes so far."""
        return sum(count for _, count in self._blocks)

    @property
    def is_telling(self) -> bool:
        """Whether there is enough to go by: many bytes, or some over some time."""
        blocks, total = sorted(self._blocks), self.total
        return total >= _MANY or (total >= _FEW and blocks[-1][0] - blocks[0][0] >= _SHORT)

    @property
    def connections(self) -> int:
        """How many have brought an answer."""
        return len(self._opened)

    def opened(self) -> None:
        """The headers of an answer are there."""
        self._opened.append(time.monotonic())

    def saw(self, count: int) -> None:
        """A block came in."""
        self._blocks.append((time.monotonic(), count))

    def closed(self) -> None:
        """A connection has brought all that was asked of it."""
        self._closed.append(time.monotonic())

    def rate(self) -> float | None:
        """Bytes/s, from what came after the first quarter of the time, and of the bytes.

        A connection starts slowly (RFC 5681); a mirror that limits rates starts with what it has saved up. What came
        after the first connection was done does not count, for then there were fewer. None: nothing came.
        """
        blocks = sorted(self._blocks)
        if not blocks:
            return None
        if self._closed:
            busy = [block for block in blocks if block[0] <= min(self._closed)]
            blocks = busy if sum(count for _, count in busy) * 2 > self.total else blocks
        return _steady(min(self._opened), blocks)


def _steady(opened: float, blocks: list[tuple[float, int]]) -> float:
    """The median of the rates to the last block from each block in the middle: a hiccup shifts only some of them."""
    total, so_far = sum(count for _, count in blocks), 0
    end, rates = blocks[-1][0], []
    for moment, count in blocks:
        so_far += count
        passed = min(so_far / total, (moment - opened) / max(end - opened, _INSTANT))
        if _MIDDLE[0] <= passed <= _MIDDLE[1] and end - moment >= _SHORTEST:
            rates.append((total - so_far) / (end - moment))
    return statistics.median(rates) if rates else total / max(end - opened, _INSTANT)
