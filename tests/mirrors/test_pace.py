"""Rates out of blocks, on a clock that the test moves."""

from __future__ import annotations

import pytest

from mirrors.probing import pace
from mirrors.probing.pace import Pace


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pace, "time", clock)
    return clock


def read(found: Pace, clock: Clock, seconds: float, rate: float, blocks: int = 50) -> None:
    for _ in range(blocks):
        clock.now += seconds / blocks
        found.saw(round(rate * seconds / blocks))


def test_nothing_has_no_rate() -> None:
    assert Pace().rate() is None


def test_a_steady_stream(clock: Clock) -> None:
    found = Pace()
    found.opened()
    read(found, clock, 2.0, 1_000_000)
    assert found.rate() == pytest.approx(1_000_000, rel=0.01)


def test_a_slow_start_does_not_count(clock: Clock) -> None:
    found = Pace()
    found.opened()
    read(found, clock, 1.0, 100_000)
    read(found, clock, 1.0, 1_000_000)
    assert found.rate() == pytest.approx(1_000_000, rel=0.05)


def test_a_stock_that_is_given_at_once_does_not_count(clock: Clock) -> None:
    found = Pace()
    found.opened()
    read(found, clock, 0.1, 20_000_000)
    read(found, clock, 1.0, 1_000_000)
    assert found.rate() == pytest.approx(1_000_000, rel=0.05)


def test_what_comes_when_the_first_connection_is_done_does_not_count(clock: Clock) -> None:
    found = Pace()
    found.opened()
    found.opened()
    read(found, clock, 1.0, 2_000_000)
    found.closed()
    read(found, clock, 0.5, 1_000_000)
    found.closed()
    assert found.rate() == pytest.approx(2_000_000, rel=0.05)
    assert found.connections == 2


def test_one_block_is_told_by_the_time_that_it_took(clock: Clock) -> None:
    found = Pace()
    found.opened()
    clock.now += 0.5
    found.saw(50_000)
    assert found.rate() == pytest.approx(100_000)
    assert not found.is_telling


def test_many_bytes_tell_however_soon_they_come(clock: Clock) -> None:
    found = Pace()
    found.opened()
    read(found, clock, 0.001, 4e9)
    assert found.is_telling
