"""A set of byte positions, as sorted intervals: which parts of a file are here, and which are missing. Pure data."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

Interval = tuple[int, int]


class Ranges:
    """Positions as disjoint half-open intervals `(start, end)`, touching ones merged, in ascending order."""

    def __init__(self, intervals: Iterable[Interval] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in intervals:
            self.add(start, end)

    def add(self, start: int, end: int) -> None:
        """Include the positions from `start` up to, not including, `end`."""
        if start >= end:
            return
        first, last = bisect_left(self._ends, start), bisect_right(self._starts, end)
        if first < last:
            start, end = min(start, self._starts[first]), max(end, self._ends[last - 1])
        self._starts[first:last], self._ends[first:last] = [start], [end]

    def remove(self, start: int, end: int) -> None:
        """Exclude the positions from `start` up to, not including, `end`."""
        first, last = bisect_right(self._ends, start), bisect_left(self._starts, end)
        if start >= end or first >= last:
            return
        sides = ((self._starts[first], start), (end, self._ends[last - 1]))
        kept = [(left, right) for left, right in sides if left < right]
        self._starts[first:last] = [left for left, _ in kept]
        self._ends[first:last] = [right for _, right in kept]

    def within(self, start: int, end: int) -> list[Interval]:
        """What of this set lies between `start` and `end`."""
        first, last = bisect_right(self._ends, start), bisect_left(self._starts, end)
        intervals = zip(self._starts[first:last], self._ends[first:last], strict=True)
        return [(max(left, start), min(right, end)) for left, right in intervals]

    def gaps(self, start: int, end: int) -> list[Interval]:
        """What is missing between `start` and `end`."""
        missing, position = [], start
        for left, right in self.within(start, end):
            if position < left:
                missing.append((position, left))
            position = right
        if position < end:
            missing.append((position, end))
        return missing

    def reach(self, position: int) -> int:
        """The end of the interval that holds `position`; `position` itself if none does."""
        index = bisect_right(self._starts, position) - 1
        return max(position, self._ends[index]) if index >= 0 else position

    def copy(self) -> Ranges:
        """A set of its own with the same positions."""
        twin = Ranges()
        twin._starts, twin._ends = self._starts.copy(), self._ends.copy()
        return twin

    @property
    def total(self) -> int:
        """How many positions there are."""
        return sum(self._ends) - sum(self._starts)

    @property
    def prefix(self) -> int:
        """The end of the interval that begins at 0; 0 if there is none."""
        return self._ends[0] if self._starts and self._starts[0] == 0 else 0

    @property
    def end(self) -> int:
        """The position after the last one."""
        return self._ends[-1] if self._ends else 0

    def __contains__(self, interval: Interval) -> bool:
        start, end = interval
        return self.reach(start) >= end

    def __iter__(self) -> Iterator[Interval]:
        return iter(list(zip(self._starts, self._ends, strict=True)))

    def __bool__(self) -> bool:
        return bool(self._starts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranges) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"Ranges({list(self)})"
