"""Whose bytes were wrong: with two, three and more sources, and after an earlier run."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from mirrors.fetch import Artifact, Downloads
from mirrors.fetching.blame import SAMPLE, SMALLEST, Verdict, judge
from mirrors.fetching.transfer import SourceFault
from mirrors.http import HttpSettings
from mirrors.partial import Partial
from mirrors.ranges import Ranges
from mirrors.store import Store
from tests.mirrors.loopback import Fault, LoopbackMirror

DATA = random.Random(2).randbytes(5_000_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
PART = 500_000
EVIL = bytes(byte ^ 1 for byte in DATA)


@pytest.fixture
def partial(tmp_path: Path) -> Iterator[Partial]:
    partial = Partial(tmp_path / "partial", tmp_path / SHA256)
    yield partial
    partial.close()


def fill(partial: Partial, contents: Mapping[str, bytes]) -> None:
    """The file in parts from each in turn."""
    names = list(contents)
    for number, start in enumerate(range(0, len(DATA), PART)):
        name = names[number % len(names)]
        partial.write(start, contents[name][start : start + PART], name)


def verdict(
    partial: Partial, serve: Mapping[str, bytes], trust: Mapping[str, int] | None = None
) -> tuple[Verdict, dict[str, int]]:
    """What is found, and how many bytes each source was asked for."""
    asked = dict.fromkeys(serve, 0)

    def read(name: str, start: int, end: int) -> bytes:
        asked[name] += end - start
        if not serve[name]:
            raise SourceFault("answers 404", "never")
        return serve[name][start:end]

    return judge(partial, list(serve), trust or {}, read), asked


def gave(partial: Partial, name: str) -> Ranges:
    return partial.sources()[name]


def test_of_three_sources_the_majority_is_believed(partial: Partial) -> None:
    serve = {"a": DATA, "evil": EVIL, "c": DATA}
    fill(partial, serve)
    found, asked = verdict(partial, serve)
    assert found == Verdict(frozenset({"evil"}), gave(partial, "evil"))
    assert sum(asked.values()) <= 40 * SAMPLE


def test_a_single_wrong_bit_is_found(partial: Partial) -> None:
    wrong = bytearray(DATA)
    wrong[PART + 300_000] ^= 1  # in the middle of the first part of "evil"
    serve = {"a": DATA, "evil": bytes(wrong), "c": DATA}
    fill(partial, serve)
    assert verdict(partial, serve)[0] == Verdict(frozenset({"evil"}), gave(partial, "evil"))


def test_of_two_sources_the_less_proven_is_suspected(partial: Partial) -> None:
    serve = {"a": DATA, "evil": EVIL}
    fill(partial, serve)
    found, _ = verdict(partial, serve, {"a": 1000})
    assert found == Verdict(frozenset({"evil"}), gave(partial, "evil"), certain=False)


def test_who_gave_all_is_at_fault(partial: Partial) -> None:
    fill(partial, {"evil": EVIL})
    found, asked = verdict(partial, {"evil": EVIL, "b": DATA})
    assert found == Verdict(frozenset({"evil"}), Ranges([(0, len(DATA))]))
    assert sum(asked.values()) == 0


def test_bytes_of_sources_that_nobody_can_ask_are_the_first_to_go(partial: Partial) -> None:
    fill(partial, {"gone": EVIL, "a": DATA})
    found, _ = verdict(partial, {"a": DATA, "b": DATA})
    assert found == Verdict(frozenset(), gave(partial, "gone"))


def test_bytes_that_went_bad_here_are_not_their_sources_fault(partial: Partial) -> None:
    fill(partial, {"a": EVIL, "b": DATA})
    found, _ = verdict(partial, {"a": DATA, "b": DATA})
    assert found == Verdict(frozenset(), gave(partial, "a"))


def test_a_source_that_does_not_answer_has_no_say(partial: Partial) -> None:
    fill(partial, {"a": DATA, "evil": EVIL})
    found, _ = verdict(partial, {"mute": b"", "a": DATA, "evil": EVIL, "c": DATA})
    assert found.liars == {"evil"}


def test_a_source_that_did_not_answer_is_not_waited_for_again(partial: Partial) -> None:
    serve = {"a": DATA, "b": DATA[:-1] + b"?"}
    fill(partial, serve)
    _, asked = verdict(partial, {"mute": b"", **serve})
    assert asked["mute"] == SMALLEST


def test_of_two_that_are_equally_proven_the_one_that_does_not_answer_is_suspected(partial: Partial) -> None:
    partial.write(0, EVIL[:-PART], "mute")
    partial.write(len(DATA) - PART, DATA[-PART:], "a")
    found, _ = verdict(partial, {"a": DATA, "mute": b""})
    assert found == Verdict(frozenset({"mute"}), gave(partial, "mute"), certain=False)


def test_where_nothing_is_here_nobody_is_at_fault(partial: Partial) -> None:
    assert verdict(partial, {"a": DATA, "b": EVIL})[0] == Verdict(frozenset(), Ranges())


def test_where_all_agree_all_are_wrong(partial: Partial) -> None:
    serve = {"a": EVIL, "b": EVIL}
    fill(partial, serve)
    found, _ = verdict(partial, serve)
    assert found == Verdict(frozenset({"a", "b"}), Ranges([(0, len(DATA))]))


def test_two_that_lie_alike_are_found_one_after_the_other(partial: Partial) -> None:
    serve = {"a": DATA, "b": DATA, "c": DATA, "evil": EVIL, "bad": DATA[:-1] + b"?"}
    fill(partial, serve)
    blamed = set[str]()
    while not partial.complete:
        found, _ = verdict(partial, {name: serve[name] for name in serve if name not in blamed})
        blamed |= found.liars
        for start, end in found.forget:
            partial.forget(start, end)
            partial.write(start, DATA[start:end], "a")
    assert blamed <= {"evil", "bad"}
    assert blamed


def tampered(dice: random.Random, data: bytes) -> bytes:
    """Of the right length, and wrong somewhere."""
    wrong = bytearray(data)
    start = dice.randrange(len(data))
    end = min(len(data), start + int(10 ** dice.uniform(0, 6)))
    wrong[start:end] = dice.randbytes(end - start)
    wrong[start] = data[start] ^ 255
    return bytes(wrong)


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("seed", range(8))
def test_whatever_one_mirror_tampers_with_the_file_is_right(tmp_path: Path, seed: int, count: int) -> None:
    dice, data = random.Random(seed), DATA[:2_000_000]
    artifact = Artifact("f", len(data), hashlib.sha256(data).hexdigest())
    mirrors = [LoopbackMirror() for _ in range(count)]
    evil = dice.choice(mirrors)
    store, counts = Store(tmp_path), list[int]()
    for mirror in mirrors:
        mirror.add("f", tampered(dice, data) if mirror is evil else data)
        mirror.misbehave("*", Fault(rate=dice.choice([2e6, 5e6])))
        mirror.__enter__()
    try:
        with Downloads(store, HttpSettings(), counts.append) as downloads:
            fetched = downloads.want(artifact, [mirror.url("f") for mirror in mirrors]).result()
            assert set(downloads.dropped) <= {evil.base.removeprefix("http://")}
    finally:
        for mirror in mirrors:
            mirror.stop()
    assert fetched.path.read_bytes() == data
    assert sum(counts) == len(data)
    # of two, the wrong one may be suspected first
    assert fetched.bytes_fetched <= (4 if count == 2 else 3) * len(data)


def test_one_that_tampers_is_found_in_what_a_killed_run_left(
    tmp_path: Path, mirror: LoopbackMirror, other: LoopbackMirror, http: HttpSettings
) -> None:
    store, name = Store(tmp_path), mirror.base.removeprefix("http://")
    mirror.add("f", EVIL)
    other.add("f", DATA)
    with store.incoming(SHA256) as partial:
        assert partial is not None
        partial.write(0, EVIL[:2_000_000], name)
    with Downloads(store, http) as downloads:
        fetched = downloads.want(Artifact("f", len(DATA), SHA256), [mirror.url("f"), other.url("f")]).result()
        assert set(downloads.dropped) == {name}
    assert fetched.path.read_bytes() == DATA
