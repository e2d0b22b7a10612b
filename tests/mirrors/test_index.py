"""Reading index pages of real servers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mirrors import catalogue, index
from mirrors.errors import Unreachable
from mirrors.http import HttpSettings
from mirrors.index import Listed, NotAnIndex, NotHttps, Page
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


JSON = "application/vnd.pypi.simple.v1+json"
HERE = "http://127.0.0.1:8/simple/demo-thing/"


def html_page(*links: tuple[str, str], url: str = HERE) -> Page:
    anchors = "".join(f'<a href="{href}">{name}</a>' for href, name in links)
    return Page(anchors.encode(), url, "text/html")


def json_page(*files: dict[str, Any]) -> Page:
    document = {"meta": {"api-version": "1.1"}, "name": "demo-thing", "versions": [], "files": files}
    return Page(json.dumps(document).encode(), HERE, JSON)


@pytest.mark.parametrize(
    ("url", "page_url", "listed"),
    [
        ("https://a.example/x", HERE, True),
        ("https://a.example/x", "https://a.example/", True),
        ("http://127.0.0.1:9/x", HERE, True),
        ("http://127.0.0.1:9/x", "https://a.example/", False),
        ("http://a.example/x", HERE, False),
        ("http://a.example/x", "http://a.example/", False),
        ("file:///etc/passwd", HERE, False),
        ("file://127.0.0.1/etc/passwd", HERE, False),
        ("ftp://127.0.0.1/x", HERE, False),
    ],
)
def test_only_a_link_that_may_be_followed_is_listed(url: str, page_url: str, listed: bool) -> None:
    good = "https://b.example/older"
    found = index.files(html_page((good, OLDER), (url, NAME), url=page_url), "demo-thing")
    assert [file.url for file in found] == [good, url][: 1 + listed]
    if not listed:
        with pytest.raises(NotHttps, match="lists demo-thing at an address that is not https"):
            index.files(html_page((url, NAME), url=page_url), "demo-thing")


@pytest.mark.parametrize("name", ["../../demo-1.0.tar.gz", "demo 1.0.tar.gz", "d" * 200 + ".tar.gz", "demo\n.whl", ""])
def test_a_file_with_an_impossible_name_is_left_out(name: str) -> None:
    files = [{"filename": it, "url": f"https://a.example/{len(it)}", "hashes": {}} for it in (name, NAME)]
    assert [file.filename for file in index.files(json_page(*files), "demo-thing")] == [NAME]


@pytest.mark.parametrize("size", [0, -1, 10**100])
def test_a_size_that_no_file_has_is_none(size: int) -> None:
    (found,) = index.files(json_page({"filename": NAME, "url": "/x", "hashes": {}, "size": size}), "demo-thing")
    assert found.size is None


@pytest.mark.parametrize(
    "told", ["", "short", "g" * 64, "a" * 63 + "\n", f"{'a' * 64}\nevil==1 --hash=sha256:{'b' * 64}"]
)
def test_what_is_no_sha256_counts_as_none(told: str) -> None:
    (found,) = index.files(json_page({"filename": NAME, "url": "/x", "hashes": {"sha256": told}}), "demo-thing")
    assert found.sha256 is None


def test_a_link_with_a_million_tags_is_none() -> None:
    hidden = Page(f'<a href="/x">{"<b>" * 1_000_000}{NAME}</a><a href="/y">{OLDER}</a>'.encode(), HERE, "text/html")
    assert [file.filename for file in index.files(hidden, "demo-thing")] == [OLDER]


def test_a_link_with_a_comparison_that_should_have_been_escaped_is_one() -> None:
    page = Page(f'<a href="/x" data-requires-python=">=3.8,<4">{NAME}</a>'.encode(), HERE, "text/html")
    assert [file.filename for file in index.files(page, "demo-thing")] == [NAME]


@pytest.mark.parametrize("type_", ["text/html", JSON])
def test_of_more_links_than_any_project_has_only_some_are_parsed(type_: str) -> None:
    names = [f"demo_thing-2.0-{number}-py3-none-any.whl" for number in range(9_000)]
    page = (
        html_page(*(("/x", name) for name in names))
        if type_ == "text/html"
        else json_page(*({"filename": name, "url": "/x", "hashes": {}} for name in names))
    )
    assert [file.filename for file in index.files(page, "demo-thing")] == names[: 1 << 13]


def test_a_page_of_countless_values_is_not_parsed() -> None:
    with pytest.raises(NotAnIndex):
        index.files(Page(json_page().content[:-1] + b', "x": [' + b"1," * 1_100_000 + b"1]}", HERE, JSON), "demo-thing")


@pytest.mark.parametrize("formats", [("json",), ("html",)])
def test_links_to_the_own_host_get_the_credentials_of_the_index_and_no_others(
    mirror: LoopbackMirror, other: LoopbackMirror, http: HttpSettings, sha256: str, formats: tuple[str, ...]
) -> None:
    mirror.formats = formats
    mirror.link(NAME, mirror.url(NAME))
    mirror.link(OLDER, other.url(OLDER))
    with_user = mirror.base.replace("://", "://user:secret@")
    found = index.files(index.get_page(catalogue.adhoc(f"{with_user}/simple"), "demo-thing", http, 5.0), "demo-thing")
    assert {file.url for file in found} == {f"{with_user}/files/{NAME}", other.url(OLDER)}


def test_a_link_with_a_user_of_its_own_keeps_it() -> None:
    page = html_page(("https://else:other@a.example/x", NAME), url="https://user:secret@a.example/simple/demo-thing/")
    assert [file.url for file in index.files(page, "demo-thing")] == ["https://else:other@a.example/x"]


def test_credentials_survive_a_redirect_on_the_own_host_and_end_at_another(
    mirror: LoopbackMirror, other: LoopbackMirror, http: HttpSettings, sha256: str
) -> None:
    other.add(NAME, b"PK newer")
    index_url = mirror.index_url.replace("://", "://user:secret@")
    found = []
    for server in (mirror, other):
        mirror.misbehave("/simple/*", Fault(redirect=f"{server.base}/flat/"))
        page_of = index.get_page(catalogue.adhoc(index_url), "demo-thing", http, 5.0)
        found.append(index.files(page_of, "demo-thing", lambda name: name == NAME)[0].url)
    assert found == [mirror.url(NAME).replace("://", "://user:secret@"), other.url(NAME)]
