"""Reading index pages of real servers."""

from __future__ import annotations

import pytest

from mirrors import catalogue, index
from mirrors.errors import Unreachable
from mirrors.http import HttpSettings
from mirrors.index import Listed, NotAnIndex, Page
from mirrors.rows import Layout
from tests.mirrors.loopback import Fault, LoopbackMirror

NAME, OLDER = "demo_thing-2.0-py3-none-any.whl", "demo_thing-1.0-py3-none-any.whl"


@pytest.fixture
def sha256(mirror: LoopbackMirror) -> str:
    mirror.add(OLDER, b"PK older")
    return mirror.add(NAME, b"PK newer")


def page(mirror: LoopbackMirror, http: HttpSettings, layout: Layout = "simple") -> Page:
    url = f"{mirror.base}/flat" if layout == "flat" else mirror.index_url
    return index.get_page(catalogue.adhoc(url, layout=layout), "Demo.Thing", http, 5.0)


@pytest.mark.parametrize(("formats", "size"), [(("json",), 8), (("html",), None)])
def test_the_files_of_a_project(
    mirror: LoopbackMirror, http: HttpSettings, sha256: str, formats: tuple[str, ...], size: int | None
) -> None:
    mirror.formats = formats
    found = index.files(page(mirror, http), "demo-thing", lambda name: name == NAME)
    assert found == [Listed(NAME, mirror.url(NAME), sha256, size)]
    assert [seen.path for seen in mirror.requests] == ["/simple/demo-thing/"]


def test_all_files_where_no_name_matters_more(mirror: LoopbackMirror, http: HttpSettings, sha256: str) -> None:
    assert {file.filename for file in index.files(page(mirror, http), "demo-thing")} == {NAME, OLDER}


def test_a_flat_page_has_all_projects(mirror: LoopbackMirror, http: HttpSettings, sha256: str) -> None:
    mirror.add(OLDER, b"PK older", listed_sha256=None)
    found = index.files(page(mirror, http, "flat"), "demo-thing")
    assert {(file.filename, file.sha256) for file in found} == {(NAME, sha256), (OLDER, None)}
    assert [seen.path for seen in mirror.requests] == ["/flat"]


def test_credentials_stay_out_of_the_repr() -> None:
    assert "secret" not in repr(Listed(NAME, "https://user:secret@a.example/x", None, None))


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(status=404), "lacks Demo.Thing (HTTP 404)"),
        (Fault(status=403), "refuses this installer (HTTP 403)"),
        (Fault(status=429, headers={"Retry-After": "30"}), "wants fewer requests (HTTP 429), the next one in 30 s"),
        (Fault(status=500), "answers HTTP 500 Internal Server Error"),
    ],
)
def test_a_page_that_is_not_given(mirror: LoopbackMirror, http: HttpSettings, fault: Fault, reason: str) -> None:
    mirror.misbehave("/simple/*", fault)
    with pytest.raises(NotAnIndex) as caught:
        page(mirror, http)
    assert caught.value.reason == reason
    assert str(caught.value) == f"{mirror.index_url}/demo-thing/ {reason}"


def test_pytorch_says_403_for_what_it_lacks(mirror: LoopbackMirror, http: HttpSettings) -> None:
    mirror.misbehave("/simple/*", Fault(status=403))
    with pytest.raises(NotAnIndex, match="lacks torch"):
        index.get_page(catalogue.adhoc(mirror.index_url, kind="pytorch"), "torch", http, 5.0)


def test_a_page_that_is_no_index(mirror: LoopbackMirror, http: HttpSettings, sha256: str) -> None:
    mirror.misbehave("/simple/*", Fault(portal=True))
    with pytest.raises(NotAnIndex, match="login page"):
        index.files(page(mirror, http), "demo-thing")


def test_a_server_that_is_gone(mirror: LoopbackMirror, http: HttpSettings) -> None:
    mirror.stop()
    with pytest.raises(Unreachable, match="refuses connections"):
        page(mirror, http)
