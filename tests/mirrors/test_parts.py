"""Who reads which part of a file."""

from __future__ import annotations

from pathlib import Path

from mirrors.probing.parts import Part, Parts, Piece, keep
from mirrors.store import Store

SHA256 = "ab" * 32


def test_parts_are_disjoint_and_end_with_the_file() -> None:
    parts = Parts(250)
    assert [parts.take(100) for _ in range(4)] == [Part(0, 100), Part(100, 200), Part(200, 250), None]
    assert parts.free() == 0


def test_what_is_here_is_not_read() -> None:
    parts = Parts(250, [(50, 200)])
    assert parts.take(50) == Part(0, 50)
    assert parts.take(100) == Part(200, 250)


def test_the_largest_gap_is_taken_where_none_is_large_enough() -> None:
    parts = Parts(300, [(20, 100), (160, 300)])
    assert parts.take(100) == Part(100, 160)
    assert parts.take(100) == Part(0, 20)


def test_a_file_of_unknown_size_goes_on_until_somebody_knows() -> None:
    parts = Parts()
    assert [parts.take(100), parts.take(100)] == [Part(0, 100), Part(100, 200)]
    parts.learn_size(230, "upstream", sure=True)
    assert [parts.take(100), parts.take(100)] == [Part(200, 230), None]


def test_what_one_source_says_of_the_size_counts_for_its_own_parts_until_another_one_says_so_too() -> None:
    parts = Parts()
    for _ in range(2):
        parts.learn_size(50, "a:1")
    assert [parts.take(100, told=50), parts.take(100, told=50), parts.take(100)] == [Part(0, 50), None, Part(50, 150)]
    assert parts.take_any(100, told=50) == Part(0, 50, spare=True)
    parts.learn_size(200, "b:1")
    parts.learn_size(200, "c:1")
    assert [parts.take(100), parts.take(100)] == [Part(150, 200), None]


def test_the_rest_of_a_part_goes_to_somebody_else() -> None:
    parts = Parts(100)
    part = parts.take(100)
    assert part is not None
    parts.give_back(part, 30)
    assert parts.free() == 70
    assert parts.free(told=50) == 20
    assert parts.take(100) == Part(30, 100)


def test_where_all_is_taken_the_beginning_is_read_twice_and_stays_with_the_first() -> None:
    parts = Parts(100)
    parts.take(100)
    spare = parts.take_any(40)
    assert spare == Part(0, 40, spare=True)
    parts.give_back(spare)
    assert parts.take(40) is None


def test_only_what_is_missing_is_written(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert keep(store, SHA256, [Piece("a:1", 10, bytearray(b"x" * 10)), Piece("b:1", 15, bytearray(b"y" * 10))]) == 15
    with store.incoming(SHA256) as partial:
        assert partial is not None
        assert partial.read(10, 25) == b"x" * 10 + b"y" * 5
        assert keep(store, SHA256, [Piece("c:1", 0, bytearray(b"z" * 100))]) == 0  # somebody is at work on it
