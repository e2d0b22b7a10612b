"""Whose word for a sha256 counts, as arithmetic. With real indexes: test_conda_lock.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pytest

from bootstrap.backends.conda import trust
from bootstrap.backends.conda.trust import Claim, Lied
from bootstrap.errors import SetupError
from mirrors.catalogue import Mirror, mirrors

GOOD, EVIL = "a" * 64, "e" * 64
KEY = "conda-forge/noarch/x-1-0.conda"


def claim(sha256: str | None = GOOD, size: int | None = 7) -> Claim:
    return Claim("conda-forge", "noarch", "x-1-0.conda", sha256, size)


def mirror(host: str, *, upstream: bool = False) -> Mirror:
    return Mirror(host, host, "conda", f"https://{host}", "", "channels", upstream=upstream)


BASE, UPSTREAM = mirror("mirrors.one.example"), mirror("upstream.example", upstream=True)
TWO, THREE = mirror("two.org"), mirror("three.net")


def judged(
    base: Mirror, says: Mapping[str, Claim | None], others: Sequence[Mirror], known: Mapping[str, str] | None = None
) -> trust.Verdict:
    """A verdict, where each of the others says its claim, or cannot be asked (None)."""

    def ask(other: Mirror, _claims: Sequence[Claim]) -> Iterable[Claim]:
        said = says[other.id]
        if said is None:
            raise SetupError("it is down")
        return [said]

    return trust.judge([says[base.id] or claim()], base, known or {}, others, ask)


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("mirrors.tuna.tsinghua.edu.cn", "mirrors.bfsu.edu.cn", True),
        ("mirrors.ustc.edu.cn", "mirror.nju.edu.cn", False),
        ("mirror.one.example", "mirrors.one.example", True),
        ("conda.anaconda.org", "prefix.dev", False),
        ("127.0.0.1:1", "127.0.0.1:2", False),
    ],
)
def test_who_runs_a_mirror_is_told_by_its_domain(first: str, second: str, same: bool) -> None:
    assert (trust.operator(mirror(first)) == trust.operator(mirror(second))) is same


def test_the_mirrors_that_are_known_are_of_many_people() -> None:
    assert len({trust.operator(row) for row in mirrors("conda")}) >= 10


def test_upstream_alone_is_enough_also_as_the_one_that_is_asked_first() -> None:
    assert judged(UPSTREAM, {UPSTREAM.id: claim()}, []).learnt == {KEY: UPSTREAM.name}
    verdict = judged(BASE, {BASE.id: claim(size=9), UPSTREAM.id: claim(size=7), TWO.id: None}, [TWO, UPSTREAM])
    assert verdict.believed[0].size == 7
    assert verdict.reasons == []  # upstream is asked first, and that settles it


def test_two_of_the_same_people_are_one() -> None:
    sister = mirror("other.one.example")
    verdict = judged(BASE, {BASE.id: claim(), sister.id: claim()}, [sister])
    assert [it.key for it in verdict.unconfirmed] == [KEY]
    assert judged(BASE, {BASE.id: claim(), TWO.id: claim()}, [TWO]).learnt == {KEY: f"{BASE.name} and {TWO.name}"}


def test_a_size_that_is_disputed_is_not_believed() -> None:
    verdict = judged(BASE, {BASE.id: claim(size=1), TWO.id: claim(size=2)}, [TWO])
    assert verdict.believed[0].size is None


def test_a_mirror_that_two_others_contradict_is_a_liar_and_one_alone_proves_nothing() -> None:
    with pytest.raises(Lied, match="lists another sha256"):
        judged(BASE, {BASE.id: claim(EVIL), TWO.id: claim(), THREE.id: claim()}, [TWO, THREE])
    assert judged(BASE, {BASE.id: claim(), TWO.id: claim(EVIL), THREE.id: claim()}, [TWO, THREE]).believed
    assert judged(BASE, {BASE.id: claim(), TWO.id: claim(EVIL)}, [TWO]).unconfirmed


def test_the_lock_is_above_all_and_upstream_above_two_mirrors() -> None:
    with pytest.raises(Lied, match="than the lock"):
        judged(UPSTREAM, {UPSTREAM.id: claim(EVIL)}, [], {KEY: GOOD})
    verdict = judged(BASE, {BASE.id: claim(None)}, [], {KEY: GOOD})
    assert (verdict.believed[0].sha256, verdict.learnt) == (GOOD, {})
    with pytest.raises(Lied):
        judged(BASE, {BASE.id: claim(EVIL), TWO.id: claim(EVIL), UPSTREAM.id: claim()}, [TWO, UPSTREAM])


def test_who_cannot_be_asked_is_said_and_a_claim_without_a_hash_is_none() -> None:
    verdict = judged(BASE, {BASE.id: claim(None), TWO.id: None, THREE.id: claim()}, [TWO, THREE])
    assert verdict.reasons == [f"{TWO.name} could not be asked: it is down"]
    with pytest.raises(SetupError, match="no index has a sha256"):
        trust.take_on_faith(verdict)
    assert trust.take_on_faith(judged(BASE, {BASE.id: claim()}, []))[0].sha256 == GOOD


@pytest.mark.parametrize("sha256", ["", "a" * 63, "A" * 64, GOOD + "\n", f"{GOOD}\nhttps://evil.example/x#{GOOD}"])
def test_what_is_no_sha256_is_no_claim(sha256: str) -> None:
    with pytest.raises(SetupError, match="has no sha256 for x-1-0"):
        claim(sha256)
