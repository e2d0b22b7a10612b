"""What is learnt of a model's files from the upstream hub, and from nobody else."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bootstrap import learnt_weights, model_hashes, plan, recipe, state, torch_builds, weights
from bootstrap.errors import SetupError
from bootstrap.learnt_weights import Changed
from bootstrap.weights import Brought
from mirrors import catalogue
from mirrors.errors import FetchFailed, HubRefused, MirrorError
from mirrors.http import HttpSettings
from mirrors.store import Store
from runtime.models import HashesUnknown, ModelSpec, Origin, installed, model
from tests.bootstrap import hubs
from tests.bootstrap.hubs import FILES, REPO, REVISION, WEIGHTS
from tests.mirrors.loopback import Fault, LoopbackMirror

HTTP = HttpSettings(connect_timeout=2, response_timeout=5)
EVIL = {path: b"evil" + data for path, data in FILES.items()}
LISTING = f"/files/api/models/{REPO}/tree/{REVISION}"


@pytest.fixture
def hub(home: Path) -> Iterator[LoopbackMirror]:
    with LoopbackMirror() as server:
        hubs.publish(server)
        hubs.use(state.home(), server)
        yield server


@pytest.fixture
def mirror() -> Iterator[LoopbackMirror]:
    with LoopbackMirror() as server:
        yield server


@pytest.fixture
def unknown(tmp_path: Path) -> ModelSpec:
    """A model of whose files the manifest has nothing but the names."""
    return hubs.spec(tmp_path, open_=FILES)


def bring(spec: ModelSpec, said: list[str] | None = None) -> Brought:
    say = (said if said is not None else []).append
    return weights.bring(state.home(), spec, HTTP, on_bytes=lambda _: None, say=say)


def content(spec: ModelSpec) -> dict[str, bytes]:
    directory = weights.directory(state.home(), spec)
    return {path: (directory / path).read_bytes() for path in FILES}


def learnt() -> dict[str, dict[str, int | str] | None]:
    document = json.loads(state.home().weights_lock.read_text(encoding="utf-8"))
    rows: dict[str, dict[str, int | str] | None] = document["files"][f"{REPO}@{REVISION}"]
    return rows


def test_what_the_manifest_leaves_open_is_learnt_from_the_hub_said_and_written(
    hub: LoopbackMirror, unknown: ModelSpec
) -> None:
    said: list[str] = []
    brought = bring(unknown, said)
    assert content(unknown) == FILES
    assert brought.model.complete
    assert {path: (row or {})["sha256"] for path, row in learnt().items()} == {
        path: hubs.sha256(data) for path, data in FILES.items()
    }
    lock = state.home().weights_lock
    assert len(said) == 1
    assert f"2 files of {REPO}" in said[0]
    assert str(lock) in said[0]
    assert stat.S_IMODE(lock.stat().st_mode) == 0o600


def test_what_was_learnt_is_not_asked_for_again(hub: LoopbackMirror, unknown: ModelSpec) -> None:
    bring(unknown)
    shutil.rmtree(state.home().models)
    shutil.rmtree(state.home().store)
    said: list[str] = []
    bring(unknown, said)
    assert said == []
    assert len(hub.requested(LISTING)) == 1
    assert content(unknown) == FILES


def test_small_files_come_with_what_is_learnt_of_them_and_are_not_fetched_twice(
    hub: LoopbackMirror, unknown: ModelSpec
) -> None:
    bring(unknown)
    assert len(hub.requested("*/model_index.json")) == 1


def test_the_digest_names_the_bytes_once_they_are_known(hub: LoopbackMirror, tmp_path: Path) -> None:
    here, unknown, known = state.home(), hubs.spec(tmp_path, open_=[WEIGHTS]), hubs.spec(tmp_path)
    with pytest.raises(HashesUnknown):
        weights.directory(here, unknown)
    assert not weights.present(here, unknown)
    brought = bring(unknown)
    assert brought.model.digest == known.digest
    assert weights.directory(here, unknown) == weights.directory(here, known)
    assert weights.present(here, unknown)


def test_the_runtime_learns_the_rest_from_the_models_directory(
    hub: LoopbackMirror, unknown: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    brought = bring(unknown)
    monkeypatch.setattr("runtime.models.MODELS", {unknown.id: unknown})
    directory = weights.directory(state.home(), unknown)
    assert installed(unknown.id, directory).digest == brought.model.digest


def test_a_mirror_teaches_nothing_and_none_of_its_bytes_are_believed(
    hub: LoopbackMirror, mirror: LoopbackMirror, unknown: ModelSpec
) -> None:
    hubs.publish(mirror, EVIL)  # with a list of its own that fits
    hubs.use(state.home(), hub, mirror)
    bring(unknown)
    assert mirror.requested("*/api/*") == []
    assert content(unknown) == FILES


def test_without_the_hub_a_mirror_is_not_asked_what_the_bytes_should_be(
    hub: LoopbackMirror, mirror: LoopbackMirror, unknown: ModelSpec
) -> None:
    hubs.publish(mirror, EVIL)
    hubs.use(state.home(), hub, mirror)
    hub.stop()
    with pytest.raises(SetupError, match="sha256 of 2 files of published is not known") as raised:
        bring(unknown)
    assert "refuses connections" in str(raised.value)
    for advice in ("HTTPS_PROXY", "weights-lock.json", "i2v-setup models"):
        assert advice in raised.value.hint
    assert mirror.requested("*") == []
    assert not state.home().models.exists()


def test_a_mirror_put_in_the_upstreams_place_teaches_nothing(
    home: Path, mirror: LoopbackMirror, unknown: ModelSpec
) -> None:
    hubs.publish(mirror, EVIL)
    here = state.home()
    hubs.use(here, mirror)
    here.user_mirrors.write_text(here.user_mirrors.read_text().replace(", upstream: true", ""))
    with pytest.raises(SetupError, match="no hub is marked"):
        bring(unknown)
    assert mirror.requested("*") == []


def test_where_the_hub_has_other_bytes_than_it_lists_nothing_is_installed(
    hub: LoopbackMirror, unknown: ModelSpec
) -> None:
    hub.misbehave(f"*/{WEIGHTS}", Fault(tamper=True))
    with pytest.raises(FetchFailed, match="other bytes"):
        bring(unknown)
    assert not weights.present(state.home(), unknown)


def test_a_small_file_that_is_not_the_listed_one_teaches_nothing(hub: LoopbackMirror, unknown: ModelSpec) -> None:
    hub.add(f"{REPO}/resolve/{REVISION}/model_index.json", b"[]")
    with pytest.raises(MirrorError, match=r"another model_index\.json of org/model than it lists"):
        bring(unknown)
    assert not state.home().weights_lock.exists()


def test_a_file_that_is_published_anew_under_the_same_commit_is_a_loud_error(
    hub: LoopbackMirror, unknown: ModelSpec
) -> None:
    bring(unknown)
    shutil.rmtree(state.home().models)
    shutil.rmtree(state.home().store)
    hubs.publish(hub, EVIL)
    with pytest.raises(Changed, match=f"{WEIGHTS} of {REPO} is published with other bytes now") as raised:
        bring(unknown)
    assert "learnt on" in str(raised.value)
    assert str(state.home().weights_lock) in raised.value.hint
    assert not weights.present(state.home(), unknown)


def test_a_file_that_changed_before_all_of_a_model_was_learnt_is_a_loud_error_too(
    hub: LoopbackMirror, tmp_path: Path
) -> None:
    bring(hubs.spec(tmp_path, open_=[WEIGHTS]))
    hubs.publish(hub, EVIL)
    with pytest.raises(Changed, match="other bytes now"):
        bring(hubs.spec(tmp_path, open_=FILES))
    assert set(learnt()) == {WEIGHTS}


def test_the_manifests_sha256_stands_whatever_the_hub_says(hub: LoopbackMirror, tmp_path: Path) -> None:
    spec = hubs.spec(tmp_path, open_=["model_index.json"])
    hubs.publish(hub, {**FILES, WEIGHTS: EVIL[WEIGHTS]})
    with pytest.raises(Changed, match="this version of i2v-setup"):
        bring(spec)
    assert not weights.present(state.home(), spec)


def test_a_lock_that_contradicts_the_manifest_is_not_believed(hub: LoopbackMirror, tmp_path: Path) -> None:
    origin = Origin(REPO, REVISION, WEIGHTS)
    entry = learnt_weights.Learnt(4, hubs.sha256(b"evil"), "https://hub.example", "2026-01-01")
    learnt_weights.add(state.home().weights_lock, {origin: entry})
    with pytest.raises(Changed, match="another sha256"):
        weights.present(state.home(), hubs.spec(tmp_path, open_=["model_index.json"]))


def test_a_lock_of_another_machine_does_where_the_hub_cannot_be_reached(
    hub: LoopbackMirror, mirror: LoopbackMirror, unknown: ModelSpec, tmp_path: Path
) -> None:
    here = state.home()
    bring(unknown)
    carried = tmp_path / "weights-lock.json"
    shutil.move(here.weights_lock, carried)
    shutil.rmtree(here.cache)
    hub.kill()
    hubs.serve(mirror)
    hubs.use(here, hub, mirror)
    learnt_weights.add(here.weights_lock, learnt_weights.read(carried))
    assert bring(unknown).sources == (mirror.base.removeprefix("http://"),)
    assert content(unknown) == FILES


@pytest.mark.parametrize(
    "damaged", [b'{"files": {"org/model@r1": {"a": {"size": "many"}}}}', b"[" * 200_000, b"\xff\xfe", b"[]", b""]
)
def test_a_damaged_lock_is_told_and_not_replaced(hub: LoopbackMirror, unknown: ModelSpec, damaged: bytes) -> None:
    lock = state.home().weights_lock
    lock.write_bytes(damaged)
    with pytest.raises(SetupError, match="is not as i2v-setup wrote it"):
        bring(unknown)
    assert lock.read_bytes() == damaged


def test_a_lock_that_cannot_be_opened_is_told(hub: LoopbackMirror, unknown: ModelSpec) -> None:
    state.home().weights_lock.mkdir()
    with pytest.raises(SetupError, match="cannot be read"):
        bring(unknown)


def test_likely_hashes_do_where_the_hub_cannot_be_reached_and_it_is_said(
    hub: LoopbackMirror, mirror: LoopbackMirror, tmp_path: Path
) -> None:
    rows = [{"path": path, "size": len(data), "likely": hubs.sha256(data)} for path, data in FILES.items()]
    spec, said = hubs.listed(tmp_path, rows), list[str]()
    hubs.serve(mirror)
    hubs.use(state.home(), hub, mirror)
    hub.stop()
    bring(spec, said)
    assert "so public lists vouch for the sha256 of 2 files of published" in said[0]
    assert content(spec) == FILES
    assert not state.home().weights_lock.exists()


def test_the_hubs_word_goes_before_likely_hashes(hub: LoopbackMirror, tmp_path: Path) -> None:
    rows = [{"path": path, "size": 3, "likely": hubs.sha256(EVIL[path])} for path in FILES]
    bring(hubs.listed(tmp_path, rows))
    assert content(hubs.listed(tmp_path, rows)) == FILES


def test_a_file_that_the_repository_may_lack_is_left_out_if_it_does(hub: LoopbackMirror, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"path": path} for path in FILES]
    spec = hubs.listed(tmp_path, [*rows, {"path": "added_tokens.json", "optional": True}])
    brought = bring(spec)
    assert [file.path for file in brought.model.files] == sorted(FILES)
    assert learnt()["added_tokens.json"] is None
    assert weights.present(state.home(), spec)


def test_a_file_that_the_repository_must_have_is_missed(hub: LoopbackMirror, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"has no vae/config\.json in org/model"):
        bring(hubs.listed(tmp_path, [*({"path": path} for path in FILES), {"path": "vae/config.json"}]))
    assert not state.home().weights_lock.exists()


def test_sizes_that_the_manifest_lacks_are_learnt_along_with_the_rest(hub: LoopbackMirror, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"path": "model_index.json"},
        {"path": WEIGHTS, "about": 5, "sha256": hubs.sha256(FILES[WEIGHTS])},
    ]
    spec = hubs.listed(tmp_path, rows)
    assert not weights.known(state.home(), spec).exact
    bring(spec)
    assert weights.known(state.home(), spec).weight_bytes == sum(map(len, FILES.values()))
    assert weights.known(state.home(), spec).exact


@pytest.mark.parametrize("status", [401, 403])
def test_a_model_for_those_who_were_let_in_says_what_to_do(
    hub: LoopbackMirror, unknown: ModelSpec, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN_PATH", "/nowhere/token")
    hub.misbehave("*", Fault(status=status, headers={"X-Error-Code": "GatedRepo"}))
    with pytest.raises(HubRefused, match=f"refuses {REPO}") as raised:
        bring(unknown)
    for advice in (f"/{REPO}", "accept the licence", "HF_TOKEN", "hf auth login"):
        assert advice in raised.value.hint


def test_a_model_whose_hashes_are_known_is_refused_with_the_same_words(hub: LoopbackMirror, tmp_path: Path) -> None:
    hub.misbehave("*/resolve/*", Fault(status=401))
    with pytest.raises(HubRefused) as raised:
        bring(hubs.spec(tmp_path))
    assert "accept the licence" in raised.value.hint


def test_the_hashes_of_a_model_are_learnt_into_a_lock_that_others_write_too(
    hub: LoopbackMirror, unknown: ModelSpec, tmp_path: Path
) -> None:
    hubs.publish(hub, {"b.json": b"[1]"}, repo="other/one", revision="c3")
    other = hubs.listed(tmp_path, [{"path": "b.json"}], id="other", repo="other/one", revision="c3")
    bring(unknown)
    bring(other)
    lock = learnt_weights.read(state.home().weights_lock)
    assert {origin.repo for origin in lock} == {REPO, "other/one"}


def test_what_stands_in_the_lock_is_never_replaced(home: Path) -> None:
    path, origin = state.home().weights_lock, Origin(REPO, REVISION, WEIGHTS)
    first = learnt_weights.Learnt(7, "a" * 64, "https://hub.example", "2026-11-23")
    learnt_weights.add(path, {origin: first})
    before = path.read_bytes()
    other = Origin(REPO, REVISION, "model_index.json")
    for changed in (replace(first, sha256="b" * 64), replace(first, size=8), None):
        with pytest.raises(Changed, match="published with other bytes"):
            learnt_weights.add(path, {other: first, origin: changed})
        assert path.read_bytes() == before


def test_several_may_write_into_the_lock_at_once(home: Path) -> None:
    path = state.home().weights_lock

    def learn(number: int) -> None:
        one = learnt_weights.Learnt(number, "a" * 64, "https://hub.example", "2026-11-23")
        learnt_weights.add(path, {Origin(REPO, REVISION, f"{number}.json"): one})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(learn, range(40)))
    assert len(learnt_weights.read(path)) == 40
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_small_files_that_were_learnt_are_in_the_store(hub: LoopbackMirror, unknown: ModelSpec) -> None:
    hub.misbehave("*.safetensors", Fault(status=404))
    with pytest.raises(MirrorError):
        bring(unknown)
    assert Store(state.home().store).has(hubs.sha256(FILES["model_index.json"]))
    assert list(state.home().cache.glob("*.tmp")) == []


@pytest.mark.parametrize(("gated", "signed_in"), [(False, False), (None, True), (True, True)])
def test_a_public_models_files_cost_no_token(
    home: Path, unknown: ModelSpec, monkeypatch: pytest.MonkeyPatch, gated: bool | None, signed_in: bool
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    publisher = catalogue.find("upstream", "hub")
    http = model_hashes.for_model(HTTP, publisher, replace(unknown, gated=gated))
    assert (http.bearer is not None) is signed_in
    assert "hf_secret" not in repr(http)


def test_every_shipped_model_can_be_looked_at_without_a_network(home: Path) -> None:
    for name in ("i2vgen-xl", "svd", "animatediff", "ltx-video", "cogvideox-5b-i2v"):
        assert not weights.present(state.home(), model(name))
    for name in ("svd-xt", "wan2.2-ti2v-5b"):
        assert weights.known(state.home(), model(name)).complete


def test_an_installation_learns_what_a_model_is_made_of_before_it_builds_anything(
    hub: LoopbackMirror, unknown: ModelSpec
) -> None:
    build = torch_builds.find("cpu")
    made_from = recipe.Recipe(build, recipe.Python("3.11", "3.11"), recipe.shipped_lock(build))
    built = plan.Step("environment", "create environment", "")

    def steps() -> list[plan.Step]:
        supply = plan.Supply("nobody", lambda _: [built])
        return list(plan.make(state.home(), unknown, made_from, supply, plan.Wishes()).steps)

    assert isinstance(steps()[0], plan.LearnHashes)
    model_hashes.learn(state.home(), unknown, HTTP, lambda _: None)
    assert steps()[0] is built
