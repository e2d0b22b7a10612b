"""From pins to wheels: one page a pin, the other mirrors by their layout, and nothing twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mirrors import catalogue, index
from mirrors.errors import MirrorError
from mirrors.http import HttpSettings
from mirrors.index import Listed
from mirrors.known import Known
from mirrors.lock import Pin
from mirrors.resolve import Index, Wheel, at_hand, resolve
from mirrors.store import Store
from mirrors.tags import manylinux, supported
from tests.mirrors.loopback import Fault, LoopbackMirror

TAGS = supported("3.11", manylinux("x86_64", 28))
SAMPLE = "sample-1.0-py3-none-any.whl"
DEMO = "demo-2.0-py3-none-any.whl"
HTTP = HttpSettings()


@pytest.fixture
def known(tmp_path: Path) -> Known:
    return Known(tmp_path / "wheels.json")


@pytest.fixture
def mirrors() -> Iterator[Callable[..., LoopbackMirror]]:
    """Makes mirrors that keep their files as PyPI does."""
    running: list[LoopbackMirror] = []

    def start(*filenames: str) -> LoopbackMirror:
        running.append(LoopbackMirror().__enter__())
        for filename in (SAMPLE, *filenames):
            running[-1].add(filename, filename.encode())
            running[-1].keep_as_pypi(filename)
        return running[-1]

    yield start
    for mirror in running:
        mirror.stop()


def pin(*filenames: str) -> Pin:
    """The pin that allows exactly these files."""
    project, version = filenames[0].split("-")[:2]
    return Pin(project, version, frozenset(hashlib.sha256(name.encode()).hexdigest() for name in filenames))


def learnt(known: Known, *wheels: Wheel) -> None:
    """What is kept once the wheels have been verified."""
    known.keep(TAGS, (Listed(w.filename, w.urls[0], w.artifact.sha256, len(w.filename)) for w in wheels))


def measured(server: LoopbackMirror) -> Index:
    """The server as an index of which it is known where the sample lies."""
    mirror = catalogue.adhoc(server.index_url)
    page = index.get_page(mirror, "sample", HTTP, 5)
    server.requests.clear()
    return Index(mirror, index.files(page, "sample")[0].url)


def test_one_page_is_read_and_the_other_mirrors_are_known_by_their_layout(
    mirrors: Callable[..., LoopbackMirror], known: Known
) -> None:
    first, second = mirrors(DEMO), mirrors(DEMO)
    (wheel,) = resolve([pin(DEMO)], TAGS, [measured(first), measured(second)], HTTP, known)
    assert [url.split("/packages/")[0] for url in wheel.urls] == [first.base, second.base]
    assert len({url.split("/packages/")[1] for url in wheel.urls}) == 1
    assert (wheel.told, wheel.filename) == (len(DEMO), DEMO)
    assert wheel.artifact.size is None  # a page's word is not good enough
    assert len(first.requests) == 1
    assert second.requests == []


def test_what_was_learnt_is_not_asked_again_of_any_mirror(
    mirrors: Callable[..., LoopbackMirror], known: Known, tmp_path: Path
) -> None:
    first, second = mirrors(DEMO), mirrors()
    learnt(known, *resolve([pin(DEMO)], TAGS, [measured(first)], HTTP, known))
    first.requests.clear()
    (wheel,) = resolve([pin(DEMO)], TAGS, [measured(second)], HTTP, Known(tmp_path / "wheels.json"))
    assert wheel.urls[0].startswith(f"{second.base}/packages/")
    assert first.requests == second.requests == []


def test_a_mirror_that_is_behind_is_passed_over(mirrors: Callable[..., LoopbackMirror], known: Known) -> None:
    behind, portal, good = mirrors(), mirrors(DEMO), mirrors(DEMO)
    indexes = [measured(behind), measured(portal), measured(good)]
    portal.misbehave("*", Fault(portal=True))
    (wheel,) = resolve([pin(DEMO)], TAGS, indexes, HTTP, known)
    assert wheel.artifact.sha256 == hashlib.sha256(DEMO.encode()).hexdigest()


def test_a_version_is_the_same_however_many_zeros_it_is_spelt_with(
    mirrors: Callable[..., LoopbackMirror], known: Known
) -> None:
    server = mirrors(DEMO)
    spelt = Pin("demo", f"{pin(DEMO).version}.0", pin(DEMO).sha256s)
    (wheel,) = resolve([spelt], TAGS, [measured(server)], HTTP, known)
    assert wheel.filename == DEMO


def test_a_listed_file_that_the_lock_does_not_allow_is_no_choice(
    mirrors: Callable[..., LoopbackMirror], known: Known
) -> None:
    server = mirrors(DEMO)
    other = Pin("demo", "2.0", frozenset({"0" * 64}))
    with pytest.raises(MirrorError, match=r"demo 2\.0.* lacks it") as caught:
        resolve([other], TAGS, [measured(server)], HTTP, known)
    assert "mirrors test" in caught.value.hint


@pytest.mark.parametrize(
    ("filename", "told"),
    [
        ("demo-2.0.tar.gz", "source distribution only"),
        ("demo-2.0-cp39-cp39-manylinux_2_28_x86_64.whl", "no wheel of it for this Python"),
    ],
)
def test_what_an_index_has_instead_of_a_wheel_that_fits_is_told(
    mirrors: Callable[..., LoopbackMirror], known: Known, filename: str, told: str
) -> None:
    server = mirrors()
    server.add(filename, filename.encode(), project="demo")
    allowed = Pin("demo", "2.0", frozenset({hashlib.sha256(filename.encode()).hexdigest()}))
    with pytest.raises(MirrorError, match=told):
        resolve([allowed], TAGS, [measured(server)], HTTP, known)


@pytest.mark.parametrize(
    ("filenames", "best"),
    [
        (("demo-2.0-py3-none-any.whl", "demo-2.0-cp311-cp311-manylinux_2_28_x86_64.whl"), 1),
        (("demo-2.0-cp312-cp312-manylinux_2_28_x86_64.whl", "demo-2.0-cp39-abi3-manylinux2014_x86_64.whl"), 1),
        (("demo-2.0-cp311-cp311-manylinux_2_17_x86_64.whl", "demo-2.0-cp311-cp311-manylinux_2_28_x86_64.whl"), 1),
        (("demo-2.0-cp311-cp311-macosx_11_0_arm64.whl", "demo-2.0-py3-none-any.whl"), 1),
    ],
)
def test_of_several_wheels_the_one_that_fits_best_is_taken(
    filenames: tuple[str, ...], best: int, mirrors: Callable[..., LoopbackMirror], known: Known
) -> None:
    (wheel,) = resolve([pin(*filenames)], TAGS, [measured(mirrors(*filenames))], HTTP, known)
    assert wheel.filename == filenames[best]


def test_a_wheel_in_a_local_directory_goes_before_all_indexes(
    mirrors: Callable[..., LoopbackMirror], known: Known, tmp_path: Path
) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / DEMO).write_bytes(DEMO.encode())
    server = mirrors(DEMO)
    here = Index(catalogue.adhoc((tmp_path / "wheels").as_uri()))
    (wheel,) = resolve([pin(DEMO)], TAGS, [measured(server), here], HTTP, known)
    assert wheel.path == tmp_path / "wheels" / DEMO
    assert server.requests == []


def test_a_page_without_hashes_will_do_where_the_lock_names_the_file(
    mirrors: Callable[..., LoopbackMirror], known: Known
) -> None:
    server = mirrors()
    sha256 = server.add(DEMO, DEMO.encode(), listed_sha256=None)
    flat = Index(catalogue.adhoc(f"{server.base}/flat/", kind="pytorch", layout="flat"))
    unnamed = pin(DEMO)
    with pytest.raises(MirrorError):
        resolve([unnamed], TAGS, [flat], HTTP, known)
    (wheel,) = resolve([replace(unnamed, names=((DEMO, sha256),))], TAGS, [flat], HTTP, known)
    assert wheel.urls == (server.url(DEMO),)


def test_measured_mirrors_of_another_layout_are_asked_where_they_have_the_file(
    mirrors: Callable[..., LoopbackMirror], known: Known
) -> None:
    servers = [mirrors(DEMO), mirrors(DEMO), mirrors(DEMO)]
    for server in servers[:2]:
        for filename in (SAMPLE, DEMO):
            server.link(filename, f"/files/{filename}")
    (wheel,) = resolve([pin(DEMO)], TAGS, [measured(server) for server in servers], HTTP, known)
    assert [url.split("/")[2] for url in wheel.urls] == [server.base.split("/")[2] for server in servers]


def test_an_index_cannot_pass_another_file_of_the_lock_off_as_ours(
    mirrors: Callable[..., LoopbackMirror], known: Known
) -> None:
    windows = "demo-2.0-cp312-cp312-win_amd64.whl"
    evil, honest = mirrors(), mirrors(DEMO)
    evil.add(DEMO, windows.encode())
    both = pin(DEMO, windows)
    hashes = {name: hashlib.sha256(name.encode()).hexdigest() for name in (DEMO, windows)}
    named = replace(both, names=tuple(hashes.items()))
    (wheel,) = resolve([named], TAGS, [measured(evil), measured(honest)], HTTP, known)
    assert (wheel.filename, wheel.artifact.sha256) == (DEMO, hashes[DEMO])


def test_an_index_that_fails_is_asked_last_from_then_on_and_by_four_at_most(
    mirrors: Callable[..., LoopbackMirror], known: Known
) -> None:
    names = [f"demo{number}-2.0-py3-none-any.whl" for number in range(20)]
    busy, good = mirrors(), mirrors(*names)
    indexes = [measured(busy), measured(good)]
    busy.misbehave("*", Fault(status=429, headers={"Retry-After": "3600"}))
    wheels = resolve([pin(name) for name in names], TAGS, indexes, HTTP, known)
    assert [wheel.filename for wheel in wheels] == names
    assert len(busy.requests) <= 4


def test_the_users_own_index_is_asked_however_many_mirrors_there_are(
    mirrors: Callable[..., LoopbackMirror], known: Known
) -> None:
    own = mirrors(DEMO)
    indexes = [*(measured(mirrors()) for _ in range(5)), Index(catalogue.adhoc(own.index_url))]
    (wheel,) = resolve([pin(DEMO)], TAGS, indexes, HTTP, known)
    assert any(url.startswith(own.base) for url in wheel.urls)


def test_a_file_that_was_measured_on_other_mirrors_too_is_taken_from_them_all(
    mirrors: Callable[..., LoopbackMirror], known: Known
) -> None:
    first, second = mirrors(), mirrors()
    for server in (first, second):
        server.link(SAMPLE, f"/files/{SAMPLE}")
    indexes = [measured(first), measured(second)]
    (wheel,) = resolve([pin(SAMPLE)], TAGS, indexes, HTTP, known)
    assert wheel.urls == (first.url(SAMPLE), second.url(SAMPLE))


def test_all_is_at_hand_only_when_every_file_is_in_the_store_or_in_a_directory(
    mirrors: Callable[..., LoopbackMirror], known: Known, tmp_path: Path
) -> None:
    store, pins = Store(tmp_path / "store"), [pin(DEMO), pin(SAMPLE)]
    learnt(known, *resolve(pins, TAGS, [measured(mirrors(DEMO))], HTTP, known))
    assert at_hand(pins, TAGS, [], known, store) is None
    for filename in (DEMO, SAMPLE):
        (tmp_path / filename).write_bytes(filename.encode())
    store.add(tmp_path / DEMO)
    assert at_hand(pins, TAGS, [], known, store) is None
    here = Index(catalogue.adhoc(tmp_path.as_uri()))
    found = at_hand(pins, TAGS, [here], known, store)
    assert found is not None
    store.add(tmp_path / SAMPLE)
    stored = at_hand(pins, TAGS, [], known, store)
    assert stored is not None
    assert [wheel.urls for wheel in stored] == [(), ()]


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"cp311-cp311-manylinux_2_28_x86_64": {"a": ["x", "../../etc", 1]}}']
)
def test_what_is_no_memory_counts_as_none(content: str, tmp_path: Path) -> None:
    (tmp_path / "wheels.json").write_text(content)
    assert Known(tmp_path / "wheels.json").recall(TAGS) == {}


def test_a_memory_that_cannot_be_written_is_done_without(
    mirrors: Callable[..., LoopbackMirror], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    known = Known(tmp_path / "file" / "wheels.json")
    learnt(known, *resolve([pin(DEMO)], TAGS, [measured(mirrors(DEMO))], HTTP, known))
    assert known.recall(TAGS) == {}


def test_an_environment_takes_the_wheels_of_its_own_python_and_platforms() -> None:
    names = [str(tag) for tag in TAGS]
    assert names[0] == "cp311-cp311-manylinux_2_28_x86_64"
    assert {"cp311-abi3-manylinux2014_x86_64", "cp39-abi3-linux_x86_64", "py3-none-any"} <= set(names)
    assert not [name for name in names if "cp312" in name or "manylinux_2_29" in name or "macosx" in name]
    assert any("cp313" in str(tag) for tag in supported("3.13"))
