"""Probing real servers that behave, and real servers that do not."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import pytest

from mirrors import catalogue
from mirrors.catalogue import Mirror
from mirrors.http import HttpSettings
from mirrors.probe import PROBE_BYTES, Measurement, Wanted, measure
from mirrors.store import Store
from tests.mirrors.loopback import Fault, LoopbackMirror

NAME = "torch-2.13.0+cpu-py3-none-any.whl"
WHEEL = b"PK\x03\x04" + bytes(range(256)) * 2000
SHA256 = hashlib.sha256(WHEEL).hexdigest()
WANTED = Wanted("torch", NAME, SHA256, len(WHEEL))
FILE, PAGE = "/files/torch*", "/simple/torch/"


@pytest.fixture(autouse=True)
def _stocked(mirror: LoopbackMirror, other: LoopbackMirror) -> None:
    for server in (mirror, other):
        server.add(NAME, WHEEL)
        server.add("torch-2.12.0+cpu-py3-none-any.whl", b"PK older")


def candidate(server: LoopbackMirror, name: str = "Here", **changes: Any) -> Mirror:
    return dataclasses.replace(catalogue.adhoc(server.index_url, name), **changes)


def probe(server: LoopbackMirror, http: HttpSettings, wanted: Wanted | None = WANTED, **changes: Any) -> Measurement:
    (found,) = measure([candidate(server, **changes)], wanted, http)
    return found


@pytest.mark.parametrize("formats", [("json", "html"), ("html",)])
def test_a_good_mirror_has_latency_and_rate_for_two_requests(
    mirror: LoopbackMirror, http: HttpSettings, formats: tuple[str, ...]
) -> None:
    mirror.formats = formats
    found = probe(mirror, http)
    assert found.verdict == "good"
    assert found.reason.startswith("has torch 2.13.0+cpu; first byte after")
    assert found.latency is not None
    assert found.rate is not None
    assert found.rate > 0
    assert (found.requests, found.probe_bytes, found.connections) == (2, len(WHEEL) // 2, 1)
    assert found.url == mirror.url(NAME)
    assert len(mirror.requests) == 2
    assert mirror.requests[1].headers["range"] == f"bytes=0-{len(WHEEL) // 2 - 1}"


def test_without_a_wanted_file_only_an_index_page_is_read(mirror: LoopbackMirror, http: HttpSettings) -> None:
    mirror.add("wheel-0.46.0-py3-none-any.whl", b"PK")
    found = probe(mirror, http, None)
    assert found.verdict == "good"
    assert (found.rate, found.requests, found.probe_bytes) == (None, 1, 0)


def test_a_version_of_the_lock_is_enough_to_find_a_file(mirror: LoopbackMirror, http: HttpSettings) -> None:
    mirror.add("torch-2.13.0+cpu-cp311-cp311-win_arm64.whl", b"PK another platform")
    wanted = Wanted("Torch", None, frozenset({SHA256, "0" * 64}), version="2.13.0+cpu")
    assert probe(mirror, http, wanted).verdict == "good"
    assert len(mirror.requested(FILE)) == 1
    assert mirror.requested("*py3-none-any.whl")
    missing = dataclasses.replace(wanted, version="2.14.0+cpu")
    assert probe(mirror, http, missing).reason == "lacks Torch 2.14.0+cpu"


def test_a_flat_page_without_hashes_is_an_index_too(mirror: LoopbackMirror, http: HttpSettings) -> None:
    mirror.add(NAME, WHEEL, listed_sha256=None)
    mirror.formats = ("html",)
    assert probe(mirror, http, url=f"{mirror.base}/flat/", layout="flat").verdict == "good"
    assert probe(mirror, http).verdict == "good"


@pytest.mark.parametrize(
    ("path", "fault", "reason"),
    [
        (PAGE, Fault(status=403), "refuses this installer (HTTP 403)"),
        (PAGE, Fault(status=403, user_agent="^uv/"), "refuses this installer (HTTP 403)"),
        (FILE, Fault(status=403), "refuses this installer (HTTP 403)"),
        (PAGE, Fault(status=429), "wants fewer requests (HTTP 429)"),
        (FILE, Fault(status=429, headers={"Retry-After": "7"}), "wants fewer requests (HTTP 429), the next one in 7 s"),
        (PAGE, Fault(status=503), "answers HTTP 503 Service Unavailable"),
        (PAGE, Fault(status=404), "lacks torch (HTTP 404)"),
        (FILE, Fault(status=404), "lists torch 2.13.0+cpu and does not have it (HTTP 404)"),
        (PAGE, Fault(portal=True), "serves a web page instead of an index; is there a login page in between?"),
        (FILE, Fault(portal=True), "serves a web page in place of the file"),
        (FILE, Fault(truncate=0), "ends the body before its announced length"),
        (PAGE, Fault(redirect="https://nothing.invalid/"), "has a host name that does not resolve"),
        (PAGE, Fault(redirect="http://nothing.invalid/"), "redirects to http://nothing.invalid/, which is not https"),
        (PAGE, Fault(redirect=PAGE), "redirects more than 5 times"),
    ],
)
def test_a_bad_mirror_is_unusable_with_a_reason(
    mirror: LoopbackMirror, http: HttpSettings, path: str, fault: Fault, reason: str
) -> None:
    mirror.misbehave(path, fault)
    found = probe(mirror, http)
    assert found.verdict == "unusable"
    assert reason in found.reason


def test_another_hash_than_the_lock_has_is_out(mirror: LoopbackMirror, http: HttpSettings) -> None:
    mirror.add(NAME, WHEEL, listed_sha256="1" * 64)
    assert probe(mirror, http).reason == "lists another sha256 for torch 2.13.0+cpu than the lock has"
    assert mirror.requested(FILE) == []


def test_another_size_than_the_lock_has_is_out(mirror: LoopbackMirror, http: HttpSettings) -> None:
    found = probe(mirror, http, dataclasses.replace(WANTED, size=3))
    assert found.reason == f"has a file of {len(WHEEL)} bytes for torch 2.13.0+cpu, not of 3"


def test_a_stale_index_is_out(mirror: LoopbackMirror, http: HttpSettings) -> None:
    wanted = Wanted("torch", "torch-2.14.0+cpu-py3-none-any.whl", SHA256)
    for mirror.formats in (("json",), ("html",)):
        assert probe(mirror, http, wanted).reason == "lacks torch 2.14.0+cpu"


def test_something_else_than_a_wheel_is_out(mirror: LoopbackMirror, http: HttpSettings) -> None:
    mirror.add(NAME, b"<html>" + WHEEL[6:], listed_sha256=SHA256)
    assert probe(mirror, http).reason == "serves something else in place of the file"


def test_a_link_that_is_not_https_is_not_followed(mirror: LoopbackMirror, http: HttpSettings) -> None:
    mirror.link(NAME, "http://nothing.invalid/torch.whl")
    assert probe(mirror, http).reason == "lists torch 2.13.0+cpu at an address that is not https"


def test_a_server_that_ignores_ranges_is_good_and_costs_no_more(mirror: LoopbackMirror, http: HttpSettings) -> None:
    mirror.add(NAME, WHEEL * 40)
    mirror.misbehave(FILE, Fault(ignore_range=True, rate=4e6))
    wanted = Wanted("torch", NAME, hashlib.sha256(WHEEL * 40).hexdigest())
    found = probe(mirror, http, wanted)
    assert found.verdict == "good"
    assert found.probe_bytes < 2 * PROBE_BYTES


def test_another_range_than_was_asked_for_is_out(
    mirror: LoopbackMirror, other: LoopbackMirror, http: HttpSettings
) -> None:
    for server in (mirror, other):  # whichever comes second is asked for a later part, and gives the first
        server.misbehave(FILE, Fault(headers={"Content-Range": f"bytes 0-9/{len(WHEEL)}"}))
    found = measure([candidate(mirror), candidate(other)], WANTED, http)
    assert sorted(it.reason for it in found)[0] == "answers with another range than was asked for"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(headers={"Content-Range": f"bytes 0-9/{'9' * 5000}"}), "answers with another range than was asked for"),
        (Fault(status=416, headers={"Content-Range": f"bytes */{'9' * 5000}"}), "answers HTTP 416"),
    ],
)
def test_a_number_without_end_is_out(mirror: LoopbackMirror, http: HttpSettings, fault: Fault, reason: str) -> None:
    mirror.misbehave(FILE, fault)
    assert probe(mirror, http).reason.startswith(reason)


def test_a_part_behind_the_end_that_the_same_answer_tells_is_out(
    mirror: LoopbackMirror, http: HttpSettings, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    with store.incoming(SHA256) as partial:
        assert partial is not None
        partial.write(0, WHEEL[:1000], "earlier")
    mirror.misbehave(FILE, Fault(headers={"Content-Range": "bytes 1000-1009/10"}))
    (found,) = measure([candidate(mirror)], dataclasses.replace(WANTED, size=None), http, store=store)
    assert found.reason == "answers with another range than was asked for"


def test_an_index_that_keeps_its_files_to_itself_gets_its_password_for_them_too(
    mirror: LoopbackMirror, other: LoopbackMirror, http: HttpSettings
) -> None:
    mirror.link(NAME, mirror.url(NAME))
    own = candidate(mirror, url=mirror.index_url.replace("://", "://user:secret@"))
    other.link(NAME, mirror.url(NAME))
    measure([own], WANTED, http)
    measure([candidate(other)], WANTED, http)
    assert ["authorization" in seen.headers for seen in mirror.requested(FILE)] == [True, False]


def test_a_model_file_is_asked_for_by_its_address_without_a_page(
    mirror: LoopbackMirror, other: LoopbackMirror, http: HttpSettings
) -> None:
    for server in (mirror, other):
        server.add("repo/resolve/abc/unet/model.safetensors", WHEEL, project=None)
    hubs = [candidate(server, kind="hub", layout="huggingface", url=server.base) for server in (mirror, other)]
    wanted = dataclasses.replace(
        WANTED,
        project="repo",
        filename="unet/model.safetensors",
        address=lambda hub: catalogue.hub_file(hub, "files/repo", "abc", "unet/model.safetensors"),
    )
    found = measure(hubs, wanted, http)
    assert [(it.verdict, it.requests) for it in found] == [("good", 1), ("good", 1)]
    assert found[0].url == f"{mirror.base}/files/repo/resolve/abc/unet/model.safetensors"


def test_an_index_page_without_end_is_cut_off(mirror: LoopbackMirror, http: HttpSettings) -> None:
    mirror.add("big-1.0-py3-none-any.whl", b"PK")
    mirror.misbehave(PAGE, Fault(endless=True))
    found = probe(mirror, http)
    assert found.verdict == "unusable"
    assert "index page" in found.reason


@pytest.mark.parametrize(
    "page", ["[" * 100_000, '{"files": 3}', "{}", "null", '"text"', '{"files": [{"url": "http://["}]}']
)
def test_a_hostile_json_page_is_data(mirror: LoopbackMirror, http: HttpSettings, page: str) -> None:
    mirror.add("torch.json", page.encode())
    mirror.misbehave(PAGE, Fault(redirect="/files/torch.json", headers={}))
    mirror.misbehave("/files/torch.json", Fault(headers={"Content-Type": "application/vnd.pypi.simple.v1+json"}))
    assert probe(mirror, http).verdict == "unusable"


@pytest.mark.parametrize("page", ["<a " * 300_000, "<a>" + " " * 900_000, "</a>" * 200_000, '<a href="' * 100_000])
def test_a_hostile_html_page_is_read_in_linear_time(mirror: LoopbackMirror, http: HttpSettings, page: str) -> None:
    mirror.add("torch.html", page.encode())
    mirror.misbehave(PAGE, Fault(redirect="/files/torch.html"))
    mirror.misbehave("/files/torch.html", Fault(headers={"Content-Type": "text/html"}))
    assert "web page instead of an index" in probe(mirror, http).reason


def test_a_mirror_that_sends_its_bytes_through_upstream_is_no_mirror(
    mirror: LoopbackMirror, other: LoopbackMirror, http: HttpSettings
) -> None:
    with LoopbackMirror() as files:  # upstream keeps its files on a host of its own, as PyPI does
        files.add(NAME, WHEEL)
        other.link(NAME, files.url(NAME))
        mirror.link(NAME, files.url(NAME))
        upstream = candidate(other, "Upstream", upstream=True)
        found = measure([candidate(mirror), upstream], WANTED, http)
    assert [it.verdict for it in found] == ["unusable", "good"]
    assert found[0].reason == "is no mirror of its own: the bytes come from Upstream"


def test_a_mirror_that_redirects_to_another_candidate_is_no_mirror(
    mirror: LoopbackMirror, other: LoopbackMirror, http: HttpSettings
) -> None:
    mirror.misbehave(FILE, Fault(redirect=other.url(NAME)))
    found = measure([candidate(mirror), candidate(other, "Other")], WANTED, http)
    assert found[0].reason == "is no mirror of its own: the bytes come from Other"
    assert found[1].verdict == "good"
    assert (found[0].requests, found[0].probe_bytes) == (3, 0)


def test_a_mirror_that_links_to_another_candidate_does_not_bother_that_one(
    mirror: LoopbackMirror, other: LoopbackMirror, http: HttpSettings
) -> None:
    mirror.link(NAME, other.url(NAME))
    found = measure([candidate(mirror), candidate(other, "Other")], WANTED, http)
    assert found[0].reason == "is no mirror of its own: the bytes come from Other"
    assert (found[0].requests, found[1].verdict) == (1, "good")
    assert len(other.requested(FILE)) == 1


def test_redirects_count_as_requests_and_six_are_the_most(mirror: LoopbackMirror, http: HttpSettings) -> None:
    for number in range(4):
        mirror.misbehave(f"/way/{number}", Fault(redirect=f"/way/{number + 1}"))
    mirror.misbehave(PAGE, Fault(redirect="/way/2"))
    mirror.misbehave("/way/4", Fault(redirect="/flat/"))
    mirror.misbehave(FILE, Fault(redirect="/way/0"))
    found = probe(mirror, http)
    assert (found.verdict, found.requests) == ("unusable", 6)
    assert len(mirror.requests) == 6


def test_the_same_mirror_under_two_names_is_asked_once_and_good_twice(
    mirror: LoopbackMirror, http: HttpSettings
) -> None:
    found = measure([candidate(mirror, "configured"), candidate(mirror, "Here")], WANTED, http)
    assert [(it.mirror.name, it.verdict) for it in found] == [("configured", "good"), ("Here", "good")]
    assert len(mirror.requests) == 2


@pytest.mark.parametrize("fault", [Fault(hang=True), Fault(drip=0.01)])
def test_one_that_hangs_holds_nobody_up(
    mirror: LoopbackMirror, other: LoopbackMirror, http: HttpSettings, fault: Fault
) -> None:
    mirror.misbehave("*", fault)
    found = measure([candidate(mirror), candidate(other)], WANTED, http, deadline=1.0)
    assert [it.verdict for it in found] == ["unusable", "good"]
    assert "does not answer" in found[0].reason


def test_one_that_is_slow_has_a_low_rate(mirror: LoopbackMirror, http: HttpSettings) -> None:
    mirror.misbehave(FILE, Fault(rate=20_000))
    (found,) = measure([candidate(mirror)], WANTED, http, deadline=1.5)
    assert found.verdict == "good"
    assert found.rate is not None
    assert found.rate < 200_000


def test_one_whose_page_dawdles_is_unusable(mirror: LoopbackMirror, http: HttpSettings) -> None:
    mirror.misbehave(PAGE, Fault(rate=40))
    (found,) = measure([candidate(mirror)], WANTED, http, deadline=1.0)
    assert found.reason in ("is too slow to send its index page in time", "does not answer within 1 s")


def test_a_certificate_and_a_name_are_told_apart(certificate: tuple[Path, Path], http: HttpSettings) -> None:
    with LoopbackMirror(certificate=certificate) as safe:
        found = measure([candidate(safe), catalogue.adhoc("https://nothing.invalid/simple")], WANTED, http)
    assert "TLS certificate" in found[0].reason
    assert found[1].reason == "has a host name that does not resolve"


def test_a_certificate_bundle_that_is_missing_is_data(mirror: LoopbackMirror, tmp_path: Path) -> None:
    found = probe(mirror, HttpSettings(ca_bundle=tmp_path / "none.pem"))
    assert "none.pem" in found.reason


@pytest.mark.parametrize(("status", "verdict"), [(401, "good"), (200, "good"), (403, "unusable"), (500, "unusable")])
def test_a_registry_that_asks_for_a_login_answers(
    mirror: LoopbackMirror, http: HttpSettings, status: int, verdict: str
) -> None:
    mirror.misbehave("/v2/", Fault(status=status))
    found = probe(mirror, http, None, kind="docker", layout="registry", url=mirror.base)
    assert found.verdict == verdict
    assert [seen.path for seen in mirror.requests] == ["/v2/"]


def test_a_local_directory_is_good_if_it_has_the_file(tmp_path: Path, http: HttpSettings) -> None:
    local = catalogue.adhoc(tmp_path.as_uri())
    assert measure([local], WANTED, http)[0].reason == "lacks torch 2.13.0+cpu"
    (tmp_path / NAME).write_bytes(WHEEL)
    assert measure([local], WANTED, http)[0].verdict == "good"


def test_no_mirrors_are_measured_at_once(http: HttpSettings) -> None:
    assert measure([], WANTED, http) == []
