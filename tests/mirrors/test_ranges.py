"""Sets of byte positions, against Python's own sets."""

from __future__ import annotations

import itertools
import random

import pytest

from mirrors.ranges import Interval, Ranges

END = 60


def positions(intervals: Ranges | list[Interval]) -> set[int]:
    return {position for start, end in intervals for position in range(start, end)}


@pytest.mark.parametrize("seed", range(50))
def test_it_behaves_like_a_set(seed: int) -> None:
    dice, ranges, expected = random.Random(seed), Ranges(), set[int]()
    for _ in range(60):
        start, end = sorted((dice.randrange(END), dice.randrange(END)))
        if dice.random() < 0.6:
            ranges.add(start, end)
            expected |= set(range(start, end))
        else:
            ranges.remove(start, end)
            expected -= set(range(start, end))
        assert positions(ranges) == expected
        assert ranges.total == len(expected)
        assert ranges.end == max(expected, default=-1) + 1
        assert bool(ranges) == bool(expected)
        first, last = sorted((dice.randrange(END), dice.randrange(END)))
        inside = set(range(first, last))
        assert positions(ranges.within(first, last)) == expected & inside
        assert positions(ranges.gaps(first, last)) == inside - expected
        assert ((first, last) in ranges) == (inside <= expected)
        assert ranges.prefix == next(place for place in range(END + 1) if place not in expected)
        assert ranges.reach(first) == next(place for place in range(first, END + 1) if place not in expected)


@pytest.mark.parametrize("seed", range(10))
def test_intervals_are_sorted_disjoint_and_do_not_touch(seed: int) -> None:
    dice = random.Random(seed)
    ranges = Ranges((start, start + dice.randrange(4)) for start in dice.choices(range(END), k=30))
    intervals = list(ranges)
    assert all(start < end for start, end in intervals)
    assert all(left[1] < right[0] for left, right in itertools.pairwise(intervals))


def test_a_copy_is_its_own() -> None:
    ranges = Ranges([(0, 5)])
    twin = ranges.copy()
    assert twin == ranges
    twin.add(5, 6)
    assert ranges == Ranges([(0, 5)]) != twin
    assert repr(twin) == "Ranges([(0, 6)])"
