"""The upstream hub's own word on its files, and the token that goes to it and to nobody else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mirrors import hub, hub_token
from mirrors.catalogue import Mirror
from mirrors.errors import HubRefused, MirrorError, Unreachable
from mirrors.fetch import Artifact, fetch
from mirrors.http import HttpSettings
from mirrors.store import Store
from tests.mirrors.loopback import Fault, LoopbackMirror

TOKEN = "hf_planted-token"
BEARER = f"Bearer {TOKEN}"
TREE = "api/models/org/model/tree/r1"
DATA = b"weights" * 100_000


@pytest.fixture
def tls(certificate: tuple[Path, Path]) -> Iterator[LoopbackMirror]:
    with LoopbackMirror(certificate=certificate) as server:
        yield server


@pytest.fixture
def trusting(certificate: tuple[Path, Path]) -> HttpSettings:
    return HttpSettings(ca_bundle=certificate[0], response_timeout=5.0)


def row(server: LoopbackMirror) -> Mirror:
    return Mirror("upstream", "the hub", "hub", f"{server.base}/files", "global", "huggingface", upstream=True)


def listed(data: bytes, **changes: Any) -> dict[str, Any]:
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    return {"type": "file", "oid": blob, "size": len(data), "path": "config.json", **changes}


def large(data: bytes) -> dict[str, Any]:
    sha256 = hashlib.sha256(data).hexdigest()
    lfs = {"oid": sha256, "size": len(data), "pointerSize": 135}
    return listed(b"a pointer", path="weights.safetensors", lfs=lfs, xetHash="0" * 64)


def say(server: LoopbackMirror, rows: Any) -> None:
    server.add(TREE, json.dumps(rows).encode())


def authorizations(server: LoopbackMirror) -> set[str | None]:
    return {seen.headers.get("authorization") for seen in server.requests}


# The list


def test_the_list_says_sizes_and_sha256_of_large_files_and_git_ids_of_small_ones(
    mirror: LoopbackMirror, http: HttpSettings
) -> None:
    say(mirror, [listed(b"{}"), large(DATA), {"type": "directory", "oid": "0" * 40, "size": 0, "path": "unet"}])
    found = hub.listing(row(mirror), "org/model", "r1", http)
    assert found.keys() == {"config.json", "weights.safetensors"}
    assert (found["config.json"].sha256, found["config.json"].size) == (None, 2)
    weights = found["weights.safetensors"]
    assert (weights.sha256, weights.size) == (hashlib.sha256(DATA).hexdigest(), len(DATA))


def test_a_list_of_several_pages_is_read_to_its_end(mirror: LoopbackMirror, http: HttpSettings) -> None:
    say(mirror, [listed(b"{}")])
    mirror.add("page2", json.dumps([large(DATA)]).encode())
    mirror.misbehave(f"*/{TREE}", Fault(headers={"Link": '</files/page2?cursor=x>; rel="next"'}))
    assert len(hub.listing(row(mirror), "org/model", "r1", http)) == 2


def test_a_list_without_end_is_given_up(mirror: LoopbackMirror, http: HttpSettings) -> None:
    say(mirror, [])
    mirror.misbehave(f"*/{TREE}", Fault(headers={"Link": f'</files/{TREE}>; rel="next"'}))
    with pytest.raises(MirrorError, match="without end"):
        hub.listing(row(mirror), "org/model", "r1", http)


@pytest.mark.parametrize(
    "rows",
    [
        "text",
        {"error": "no"},
        [1],
        [{"type": "file"}],
        [listed(b"{}", oid="short")],
        [listed(b"{}", size=-1)],
        [listed(b"{}", size="many")],
        [listed(b"{}", size=float("inf"))],
        [large(DATA) | {"lfs": {"oid": "short", "size": 1}}],
        [large(DATA) | {"lfs": "here"}],
    ],
)
def test_a_list_that_makes_no_sense_is_told(mirror: LoopbackMirror, http: HttpSettings, rows: Any) -> None:
    say(mirror, rows)
    with pytest.raises(MirrorError, match="gave no list of the files of org/model"):
        hub.listing(row(mirror), "org/model", "r1", http)


def test_a_list_that_is_too_deep_to_read_is_told(mirror: LoopbackMirror, http: HttpSettings) -> None:
    mirror.add(TREE, b"[" * 200_000)
    with pytest.raises(MirrorError, match="gave no list"):
        hub.listing(row(mirror), "org/model", "r1", http)


def test_a_login_page_is_no_list(mirror: LoopbackMirror, http: HttpSettings) -> None:
    mirror.misbehave("*", Fault(portal=True))
    with pytest.raises(MirrorError, match="gave no list"):
        hub.listing(row(mirror), "org/model", "r1", http)


def test_a_question_that_is_sent_elsewhere_is_not_answered_there(
    mirror: LoopbackMirror, other: LoopbackMirror, http: HttpSettings
) -> None:
    say(other, [large(DATA)])
    mirror.misbehave("*", Fault(redirect=other.url(TREE)))
    with pytest.raises(MirrorError, match="elsewhere"):
        hub.listing(row(mirror), "org/model", "r1", http)


def test_a_small_file_is_held_against_the_id_that_git_gave_it(mirror: LoopbackMirror, http: HttpSettings) -> None:
    say(mirror, [listed(b"{}")])
    mirror.add("org/model/resolve/r1/config.json", b"{}")
    published = hub.listing(row(mirror), "org/model", "r1", http)["config.json"]
    assert hub.small_file(row(mirror), "org/model", "r1", published, http) == b"{}"
    for wrong, reason in ((b"[]", "than it lists"), (b"{}{}", "more than it should")):
        mirror.add("org/model/resolve/r1/config.json", wrong)
        with pytest.raises(MirrorError, match=reason):
            hub.small_file(row(mirror), "org/model", "r1", published, http)


def test_a_large_file_without_a_sha256_is_not_fetched_to_learn_it(mirror: LoopbackMirror, http: HttpSettings) -> None:
    published = hub.Published("weights.bin", 1 << 30, None, "0" * 40)
    with pytest.raises(MirrorError, match=r"names no sha256 for weights\.bin"):
        hub.small_file(row(mirror), "org/model", "r1", published, http)
    assert mirror.requests == []


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_hub_that_is_busy_is_asked_three_times(mirror: LoopbackMirror, http: HttpSettings, status: int) -> None:
    say(mirror, [listed(b"{}")])
    mirror.misbehave("*", Fault(status=status, times=2, headers={"Retry-After": "0"}))
    assert hub.listing(row(mirror), "org/model", "r1", http)
    mirror.misbehave("*", Fault(status=status, headers={"Retry-After": "0"}))
    asked = len(mirror.requests)
    with pytest.raises(Unreachable, match=str(status)):
        hub.listing(row(mirror), "org/model", "r1", http)
    assert len(mirror.requests) == asked + 3


def test_a_hub_that_wants_to_be_left_alone_is(mirror: LoopbackMirror, http: HttpSettings) -> None:
    mirror.misbehave("*", Fault(status=429, headers={"Retry-After": "3600"}))
    with pytest.raises(Unreachable):
        hub.listing(row(mirror), "org/model", "r1", http)
    assert len(mirror.requests) == 1


def test_a_connection_that_breaks_is_tried_again(mirror: LoopbackMirror, http: HttpSettings) -> None:
    say(mirror, [listed(b"{}")])
    mirror.misbehave("*", Fault(truncate=3, times=1))
    assert hub.listing(row(mirror), "org/model", "r1", http)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(status=401, headers={"X-Error-Code": "GatedRepo"}), "accounts that were let in"),
        (Fault(status=403), "accounts that were let in"),
        (Fault(status=401, headers={"X-Error-Code": "RepoNotFound"}), "does not have org/model"),
        (Fault(status=404), "does not have org/model"),
    ],
)
def test_a_refusal_says_what_it_means(mirror: LoopbackMirror, http: HttpSettings, fault: Fault, words: str) -> None:
    mirror.misbehave("*", fault)
    with pytest.raises(HubRefused, match=words):
        hub.listing(row(mirror), "org/model", "r1", http)


def test_only_the_row_that_is_marked_as_upstream_is_the_hub(mirror: LoopbackMirror) -> None:
    upstream = row(mirror)
    assert hub.upstream([upstream]) == upstream
    for other in (
        Mirror("mine", "mine", "hub", upstream.url, "", "huggingface", upstream=True),
        Mirror("upstream", "a mirror", "hub", upstream.url, "", "huggingface"),
        Mirror("upstream", "ModelScope", "hub", upstream.url, "", "modelscope", upstream=True),
    ):
        assert hub.upstream([other]) is None


# The token


@pytest.mark.parametrize(
    "environ",
    [
        {"HF_TOKEN": f" {TOKEN}\n"},
        {"HUGGING_FACE_HUB_TOKEN": TOKEN},
        {"HF_TOKEN": TOKEN, "HUGGING_FACE_HUB_TOKEN": "hf_other"},
        {"HF_TOKEN_PATH": "{}/named"},
        {"HF_HOME": "{}/hf"},
        {"XDG_CACHE_HOME": "{}/cache"},
        {"HOME": "{}/home"},
        {"HF_TOKEN": "", "HF_HOME": "{}/hf"},
    ],
)
def test_the_token_is_found_where_it_usually_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environ: Mapping[str, str]
) -> None:
    for place in ("named", "hf/token", "cache/huggingface/token", "home/.cache/huggingface/token"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(f"{TOKEN}\n")
    environ = {name: value.format(tmp_path) for name, value in environ.items()}
    monkeypatch.setenv("HOME", environ.get("HOME", str(tmp_path / "nobody")))
    assert hub_token.read(environ) == TOKEN


def test_there_may_be_no_token(tmp_path: Path) -> None:
    assert hub_token.read({"HF_HOME": str(tmp_path)}) is None
    (tmp_path / "token").write_text("\n")
    assert hub_token.read({"HF_HOME": str(tmp_path)}) is None
    assert hub_token.read({"HF_TOKEN": TOKEN, "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}) is None


@pytest.mark.parametrize("value", [f"{TOKEN}\r\nX-Evil: 1", f"{TOKEN} two", f"{TOKEN}é", "h" * 2000])
def test_what_is_no_token_is_told_and_not_shown(value: str) -> None:
    with pytest.raises(MirrorError, match="HF_TOKEN holds is no token") as raised:
        hub_token.read({"HF_TOKEN": value})
    assert TOKEN not in f"{raised.value} {raised.value.hint}"


def test_the_token_goes_to_the_hub_and_not_to_its_content_servers(
    tls: LoopbackMirror, certificate: tuple[Path, Path], trusting: HttpSettings, tmp_path: Path
) -> None:
    sha256 = tls.add("org/model/resolve/r1/weights.safetensors", DATA)
    with LoopbackMirror(certificate=certificate) as content:
        content.add("blob", DATA)
        tls.misbehave("*/resolve/*", Fault(redirect=f"{content.url('blob')}?X-Amz-Signature=abc"))
        signed_in = hub_token.signed_in(trusting, row(tls), {"HF_TOKEN": TOKEN})
        url = tls.url("org/model/resolve/r1/weights.safetensors")
        fetched = fetch(Artifact("w", len(DATA), sha256), [url], Store(tmp_path), signed_in)
        assert fetched.path.read_bytes() == DATA
        assert authorizations(tls) == {BEARER}
        assert authorizations(content) == {None}
    assert TOKEN not in repr(signed_in)


def test_a_redirect_within_the_hub_keeps_the_token(tls: LoopbackMirror, trusting: HttpSettings) -> None:
    tls.add("new/name", b"[]")
    tls.misbehave(f"*/{TREE}", Fault(redirect="/files/new/name"))
    hub.listing(row(tls), "org/model", "r1", hub_token.signed_in(trusting, row(tls), {"HF_TOKEN": TOKEN}))
    assert authorizations(tls) == {BEARER}
    assert len(tls.requests) == 2


def test_no_mirror_gets_the_token(
    tls: LoopbackMirror, certificate: tuple[Path, Path], trusting: HttpSettings, tmp_path: Path
) -> None:
    sha256 = tls.add("w", DATA)
    with LoopbackMirror(certificate=certificate) as mirror:
        mirror.add("w", DATA)
        signed_in = hub_token.signed_in(trusting, row(tls), {"HF_TOKEN": TOKEN})
        urls = [mirror.url("w"), tls.url("w")]
        fetch(Artifact("w", len(DATA), sha256), urls, Store(tmp_path), signed_in)
        assert authorizations(mirror) == {None}
        assert authorizations(tls) <= {BEARER}


def test_whoever_sends_us_to_the_hub_does_not_make_us_show_the_token(
    tls: LoopbackMirror, certificate: tuple[Path, Path], trusting: HttpSettings
) -> None:
    tls.add("w", DATA)
    with LoopbackMirror(certificate=certificate) as elsewhere:
        elsewhere.misbehave("*", Fault(redirect=tls.url("w")))
        signed_in = hub_token.signed_in(trusting, row(tls), {"HF_TOKEN": TOKEN})
        signed_in.get(elsewhere.url("w"), {}).close()
        assert authorizations(elsewhere) == authorizations(tls) == {None}


def test_the_token_is_not_sent_without_tls(mirror: LoopbackMirror, http: HttpSettings) -> None:
    say(mirror, [])
    hub.listing(row(mirror), "org/model", "r1", hub_token.signed_in(http, row(mirror), {"HF_TOKEN": TOKEN}))
    assert authorizations(mirror) == {None}


def test_a_refusal_with_a_token_speaks_of_its_account_and_does_not_show_it(
    tls: LoopbackMirror, trusting: HttpSettings
) -> None:
    tls.misbehave("*", Fault(status=403))
    signed_in = hub_token.signed_in(trusting, row(tls), {"HF_TOKEN": TOKEN})
    with pytest.raises(HubRefused) as raised:
        hub.require_access(row(tls), "org/model", "r1", "w", signed_in)
    assert "the account of your token" in raised.value.hint
    assert TOKEN not in f"{raised.value} {raised.value.hint}"


def test_the_token_goes_before_what_the_netrc_file_has_for_the_hub(
    tls: LoopbackMirror, trusting: HttpSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password mine\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    say(tls, [])
    hub.listing(row(tls), "org/model", "r1", hub_token.signed_in(trusting, row(tls), {"HF_TOKEN": TOKEN}))
    assert authorizations(tls) == {BEARER}
