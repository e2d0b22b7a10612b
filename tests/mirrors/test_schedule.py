"""Who fetches what next: simulated mirrors and a clock of our own."""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass

import pytest

from mirrors.fetching import schedule as rules
from mirrors.fetching.schedule import MIN_PIECE, STALL, Schedule
from mirrors.fetching.transfer import SourceFault
from mirrors.fetching.work import CONNECTIONS, LOOK, MIRRORS, Job, Piece, Rank, Source
from mirrors.ranges import Ranges

MB = 1_000_000


def wanted(schedule: Schedule, size: int | None, *netlocs: str, free: Ranges | None = None) -> Job:
    sources = [Source(f"https://{netloc}/file", schedule.mirror(netloc)) for netloc in netlocs]
    job = Job(size, sources, free if free is not None else Ranges([(0, size or rules.FIRST_PIECE)]))
    schedule.jobs.append(job)
    return job


def known(**rates: float) -> Schedule:
    return Schedule({name: rate * MB for name, rate in rates.items()})


def bring(schedule: Schedule, piece: Piece, count: int, now: float) -> None:
    schedule.take(piece, piece.taken, count, now)
    piece.done = piece.taken


def complete(schedule: Schedule, piece: Piece, now: float) -> None:
    bring(schedule, piece, piece.end - piece.taken, now)
    schedule.finish(piece, None, now)


def test_an_unknown_mirror_is_asked_once_and_then_by_four_connections() -> None:
    schedule = Schedule()
    wanted(schedule, 100 * MB, "a")
    [first] = schedule.assign(0)
    assert schedule.assign(0) == []
    bring(schedule, first, 1000, 0.1)
    assert len(schedule.assign(0.1)) == CONNECTIONS - 1


def test_a_file_comes_from_four_mirrors_at_most() -> None:
    schedule = known(a=1, b=1, c=1, d=1, e=1)
    wanted(schedule, 1000 * MB, "a", "b", "c", "d", "e")
    names = [piece.source.mirror.netloc for piece in schedule.assign(0)]
    assert names == [name for name in "abcd" for _ in range(CONNECTIONS)]
    assert len(set(names)) == MIRRORS


def test_a_reserve_steps_in_for_a_mirror_that_fails_or_rests() -> None:
    schedule = known(a=1, b=1, c=1, d=1, e=1, f=1)
    job = wanted(schedule, 1000 * MB, "a", "b", "c", "d", "e", "f")
    pieces = schedule.assign(0)
    schedule.finish(pieces[0], SourceFault("answers 404", "never"), 0.1)
    assert {piece.source.mirror.netloc for piece in schedule.assign(0.1)} == {"e"}
    schedule.finish(pieces[4], SourceFault("answers 429", "now", 20), 0.2)
    assert {piece.source.mirror.netloc for piece in schedule.assign(0.2)} == {"f"}
    assert not job.hopeless


def test_pieces_follow_the_rate_and_the_order_of_the_file() -> None:
    schedule = known(slow=1, fast=16)
    job = wanted(schedule, 500 * MB, "slow", "fast")
    pieces = schedule.assign(0)
    assert [piece.start for piece in pieces] == [0, *(piece.end for piece in pieces[:-1])]
    slow, fast = pieces[0], pieces[-1]
    assert (fast.end - fast.start) == pytest.approx(16 * (slow.end - slow.start), rel=0.2)
    assert job.free == Ranges([(fast.end, 500 * MB)])


def test_a_very_fast_mirror_gets_pieces_that_the_hash_can_follow() -> None:
    schedule = known(a=4000)
    wanted(schedule, 10_000 * MB, "a")
    assert all(piece.end - piece.start <= 125 * MB for piece in schedule.assign(0))


def test_a_small_file_is_one_request() -> None:
    schedule = known(a=10, b=10)
    wanted(schedule, MIN_PIECE, "a", "b")
    [piece] = schedule.assign(0)
    assert (piece.start, piece.end, piece.source.mirror.netloc) == (0, MIN_PIECE, "a")


def test_a_file_of_unknown_size_is_asked_for_once_at_first() -> None:
    schedule = known(a=10, b=10)
    wanted(schedule, None, "a", "b")
    assert len(schedule.assign(0)) == 1


def test_a_file_that_somebody_reads_comes_first() -> None:
    schedule = known(a=10)
    wanted(schedule, 100 * MB, "a")
    read = wanted(schedule, 100 * MB, "a")
    read.readers = 1
    assert {piece.job for piece in schedule.assign(0)} == {read}


def test_who_is_idle_takes_over_the_later_part_of_the_slowest_piece() -> None:
    schedule = known(slow=0.4, fast=40)
    job = wanted(schedule, 3 * MB, "slow", "fast", free=Ranges())
    slow, fast = job.sources
    piece = Piece(job, slow, 0, 3 * MB, 0.0)
    job.pieces.append(piece)
    slow.mirror.connections = CONNECTIONS
    bring(schedule, piece, 100_000, 1.0)
    taken = schedule.assign(1.0)
    assert {other.source for other in taken} == {fast}
    assert taken[0].end == 3 * MB
    assert piece.end < 200_000  # the slow one keeps what it brings in the time that the fast one needs


def test_nothing_is_taken_over_before_it_is_known_how_fast_it_comes() -> None:
    schedule = Schedule()
    wanted(schedule, 300_000, "a", "b")
    [first] = schedule.assign(0)
    bring(schedule, first, 1000, 0.01)
    assert schedule.assign(0.01) == []
    bring(schedule, first, 1000, LOOK + 0.02)
    taken_over = schedule.assign(LOOK + 0.02)
    assert taken_over
    assert first.end < 300_000


def test_nothing_is_taken_over_that_is_ready_soon() -> None:
    schedule = known(a=10, b=10)
    job = wanted(schedule, MB, "a", "b", free=Ranges())
    job.pieces.append(Piece(job, job.sources[0], 0, MB // 4, 0.0))
    assert schedule.assign(0) == []


def test_a_silent_connection_loses_its_piece_if_there_are_others() -> None:
    schedule = known(a=1, b=1)
    job = wanted(schedule, 100 * MB, "a", "b")
    pieces = schedule.assign(0)
    for piece in pieces[1:]:
        bring(schedule, piece, 1000, STALL - 1)
    assert schedule.overdue(STALL - 0.1) == []
    assert schedule.overdue(STALL) == [pieces[0]]
    assert schedule.overdue(STALL) == []
    end = pieces[0].end
    schedule.finish(pieces[0], pieces[0].sentence, STALL)
    assert (0, end) in job.free


def test_the_last_source_is_not_given_up_for_a_silence() -> None:
    schedule = known(a=1)
    wanted(schedule, 100 * MB, "a")
    schedule.assign(0)
    assert schedule.overdue(STALL + 1) == []


@pytest.mark.parametrize(("others", "rate", "left"), [(1, 10_000, True), (1, 90_000, False), (0, 10_000, False)])
def test_a_slow_source_is_left_for_others_only(others: int, rate: int, left: bool) -> None:
    schedule = known(a=0.1, b=1)
    job = wanted(schedule, 100 * MB, *"ab"[: 1 + others])
    pieces = schedule.assign(0)
    for second in range(1, 17):
        for piece in pieces:
            bring(schedule, piece, rate // CONNECTIONS if piece.source is job.sources[0] else MB, second)
    cut = schedule.overdue(16)
    assert bool([piece for piece in cut if piece.sentence]) == left
    for piece in cut:
        schedule.finish(piece, piece.sentence, 16)
    assert job.sources[0].rank == (Rank.POOR if left else Rank.GOOD)


def test_even_the_last_source_is_given_up_when_it_crawls() -> None:
    schedule = known(a=0.1)
    job = wanted(schedule, 100 * MB, "a")
    now = 0.0
    for _ in range(20):
        for piece in schedule.assign(now):
            bring(schedule, piece, 100, now + 1)
        now += 16
        for piece in schedule.overdue(now):
            schedule.finish(piece, piece.sentence, now)
    assert job.hopeless
    assert job.sources[0].reasons == ["is slow: 0.0 KiB/s"]


def test_four_connections_that_break_at_once_are_one_mishap() -> None:
    schedule = known(a=1)
    job = wanted(schedule, 100 * MB, "a")
    for piece in schedule.assign(0):
        schedule.finish(piece, SourceFault("breaks", "now"), 1.0, wait=1)
    assert job.sources[0].tries == 1
    assert schedule.assign(1.9) == []
    assert len(schedule.assign(2.0)) == 1  # on probation


def test_three_tries_without_progress_and_a_source_is_out() -> None:
    schedule = known(a=1)
    job = wanted(schedule, 100 * MB, "a")
    now = 0.0
    for tries in range(1, 4):
        [piece] = schedule.assign(now)[:1]
        for other in list(job.pieces):
            schedule.finish(other, SourceFault("breaks", "now") if other is piece else None, now, wait=1)
        assert job.hopeless == (tries == 3)
        now += 100


def test_a_wait_that_is_too_long_is_not_waited() -> None:
    schedule = known(a=1)
    job = wanted(schedule, MIN_PIECE, "a")
    [piece] = schedule.assign(0)
    schedule.finish(piece, SourceFault("answers 429", "now", 3600), 0)
    assert job.hopeless


def test_a_mirror_that_wants_to_be_left_alone_is_left_by_all_files() -> None:
    schedule = known(a=1, b=1)
    first, second = wanted(schedule, MIN_PIECE, "a"), wanted(schedule, MIN_PIECE, "a")
    [piece, _] = schedule.assign(0)
    schedule.finish(piece, SourceFault("answers 429", "now", 3600), 0)
    third = wanted(schedule, MIN_PIECE, "a", "b")
    [piece] = schedule.assign(1)
    assert (piece.job, piece.source.mirror.netloc) == (third, "b")
    assert first.hopeless
    assert second.sources[0].reasons == ["is not to be asked for another 3599 s"]


@dataclass
class Line:
    """A simulated mirror: bytes/s of each connection, and until when it works."""

    rate: float
    dies: float = float("inf")
    stalls: float = float("inf")


STEP = 0.02


def simulate(schedule: Schedule, lines: dict[str, Line], limit: float = 1000) -> tuple[float, dict[Piece, float]]:
    """Run all jobs to their end; the time it took, and when each piece ended."""
    now, ended = 0.0, dict[Piece, float]()
    while not all(job.finished for job in schedule.jobs):
        now += STEP
        assert now < limit, "no end"
        for piece in [*schedule.overdue(now)]:
            schedule.finish(piece, piece.sentence, now, wait=0.5)
            ended[piece] = now
        schedule.assign(now)
        check(schedule)
        for piece in [piece for job in schedule.jobs for piece in job.pieces]:
            line = lines[piece.source.mirror.netloc]
            if now >= line.dies:
                schedule.finish(piece, SourceFault("breaks", "now"), now, wait=0.5)
            elif now < line.stalls:
                bring(schedule, piece, min(int(line.rate * STEP), piece.end - piece.taken), now)
                if piece.done >= piece.end:
                    schedule.finish(piece, None, now)
                    ended[piece] = now
    return now, ended


def check(schedule: Schedule) -> None:
    for mirror in schedule.mirrors.values():
        pieces = [piece for job in schedule.jobs for piece in job.pieces if piece.source.mirror is mirror]
        assert mirror.connections == len(pieces) <= CONNECTIONS
    for job in schedule.jobs:
        claims = sorted([*job.free, *((piece.done, piece.end) for piece in job.pieces if piece.done < piece.end)])
        assert all(left[1] <= right[0] for left, right in itertools.pairwise(claims)), "brought twice"


@pytest.mark.parametrize("seed", range(40))
def test_every_file_comes_to_its_end_whatever_happens_to_the_mirrors(seed: int) -> None:
    dice = random.Random(seed)
    names = "abcdefgh"[: dice.randint(2, 8)]
    lines = {name: Line(MB * 10 ** dice.uniform(-1, 1.5)) for name in names}
    for name in names[1:]:
        if dice.random() < 0.4:
            setattr(lines[name], dice.choice(["dies", "stalls"]), dice.uniform(0, 10))
    schedule = Schedule({name: lines[name].rate * 4 for name in names if dice.random() < 0.5})
    total = 0
    for _ in range(dice.randint(1, 6)):
        size = int(10 ** dice.uniform(3, 8))
        total += size
        wanted(schedule, size, "a", *dice.sample(names[1:], dice.randint(0, len(names) - 1)))
    simulate(schedule, lines)
    assert sum(sum(job.received.values()) for job in schedule.jobs) <= 1.01 * total + 1


@pytest.mark.parametrize("seed", range(15))
def test_no_slow_source_holds_up_the_end(seed: int) -> None:
    dice = random.Random(seed)
    lines = {"fast": Line(10 * MB), "slow": Line(MB * 10 ** dice.uniform(-2, 0)), "other": Line(5 * MB)}
    names = dice.sample(list(lines), 3)
    schedule = Schedule() if dice.random() < 0.5 else Schedule({name: 4 * lines[name].rate for name in names})
    size = dice.randrange(50 * MB, 500 * MB)
    wanted(schedule, size, *names)
    took, ended = simulate(schedule, lines)
    ideal = size / (4 * sum(line.rate for line in lines.values()))
    assert took <= 1.1 * ideal + 1.0  # simulated seconds
    last = heapq.nlargest(4, ended.values())
    assert last[0] - last[-1] <= 1.0


@pytest.mark.parametrize("seed", range(30))
def test_a_mirror_that_dies_or_falls_silent_costs_at_most_five_seconds(seed: int) -> None:
    dice = random.Random(seed)
    when = dice.uniform(0, 3)
    lines = {"bad": Line(MB, **{dice.choice(["dies", "stalls"]): when}), "good": Line(MB)}
    schedule = Schedule() if dice.random() < 0.5 else Schedule(dict.fromkeys(lines, 4.0 * MB))
    size = 24 * MB  # 3 seconds of both, or 6 of one
    wanted(schedule, size, *dice.sample(list(lines), 2))
    took, _ = simulate(schedule, lines)
    assert took <= 6 - when + 5  # simulated seconds


def test_a_mirror_is_asked_no_more_often_than_its_operator_allows() -> None:
    schedule = Schedule(rates={"a": 8e6}, per_minute={"a": 3})
    job = wanted(schedule, 100 * MB, "a")
    assert len(schedule.assign(0.0)) == 3
    for piece in list(job.pieces):
        schedule.finish(piece, None, 1.0)
    assert schedule.assign(59.0) == []
    assert len(schedule.assign(60.0)) == 3
