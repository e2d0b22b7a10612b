"""The catalogue: its own rows, the user's, and URLs."""

from __future__ import annotations

from pathlib import Path

import pytest
from pypi_simple import PYPI_SIMPLE_ENDPOINT

from mirrors import catalogue
from mirrors.catalogue import KINDS, Kind
from mirrors.errors import BadMirror, UnknownMirror


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return tmp_path / "mirrors.yaml"


def test_the_upstream_index_is_the_one_that_pypi_simple_names() -> None:
    upstream = catalogue.find("upstream", "pypi")
    assert upstream.upstream
    assert upstream.url == PYPI_SIMPLE_ENDPOINT.rstrip("/")


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_https_and_their_ids_are_unique(kind: Kind) -> None:
    rows = catalogue.mirrors(kind)
    assert rows
    assert len({row.id for row in rows}) == len(rows)
    assert all(
        row.url.startswith("https://") and not row.url.endswith("/") and row.id == row.id.lower() for row in rows
    )
    assert all(row.name and row.region for row in rows)


def test_the_well_known_mirrors_are_there() -> None:
    for id_ in ("tuna", "aliyun", "ustc", "bfsu", "sjtu", "nju", "huawei", "tencent"):
        assert catalogue.find(id_.upper(), "pypi").id == id_


def test_an_unknown_id_names_the_known_ones() -> None:
    with pytest.raises(UnknownMirror, match="'tunna'") as caught:
        catalogue.find("tunna", "pypi")
    assert "tuna, bfsu" in caught.value.hint


def test_a_url_without_its_scheme_is_told_without_its_password() -> None:
    with pytest.raises(UnknownMirror, match=r"@index\.example/simple") as caught:
        catalogue.find("user:hunter2@index.example/simple")
    assert "hunter2" not in str(caught.value)
    assert "https://" in caught.value.hint


def test_a_url_is_its_row_or_a_mirror_of_its_own() -> None:
    tuna = catalogue.find("tuna", "pypi")
    assert catalogue.find(tuna.url + "/", "pypi") is tuna
    own = [catalogue.find(f"https://me:secret@index.corp.example/{name}/?key=secret") for name in ("a", "b")]
    assert [(it.id, it.name) for it in own] == [(f"index.corp.example/{name}",) * 2 for name in ("a/", "b/")]


@pytest.mark.parametrize(
    "url",
    [
        "https://a.example/simple",
        "http://127.0.0.1:8000/simple",
        "http://localhost/x",
        "http://[::1]:1/",
        "file:///srv/x",
    ],
)
def test_urls_that_can_be_used(url: str) -> None:
    assert catalogue.adhoc(url).url == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    ["http://a.example/simple", "ftp://a.example", "a.example/simple", "file://host/x", "https://", "https://[", ""],
)
def test_urls_that_cannot(url: str) -> None:
    with pytest.raises(BadMirror) as caught:
        catalogue.adhoc(url)
    assert caught.value.hint


def test_no_credentials_in_messages_or_reprs() -> None:
    with pytest.raises(BadMirror) as caught:
        catalogue.adhoc("http://me:secret@a.example/simple")
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(catalogue.adhoc("https://me:secret@a.example/simple"))


def test_a_users_rows_add_and_replace(own: Path) -> None:
    own.write_text(
        "mirrors:\n- {id: corp, kind: pypi, url: 'https://index.corp.example/simple/', region: DE}\n"
        "- id: tuna\n  kind: pypi\n  url: https://tuna.corp.example/simple\n  name: our TUNA\n"
    )
    assert catalogue.find("corp", "pypi", own).url == "https://index.corp.example/simple"
    assert catalogue.find("tuna", "pypi", own).name == "our TUNA"
    assert len(catalogue.mirrors("pypi", own)) == len(catalogue.mirrors("pypi")) + 1
    assert catalogue.mirrors("conda", own) == catalogue.mirrors("conda")


@pytest.mark.parametrize("text", ["", "mirrors:\n", "# nothing yet\n"])
def test_an_empty_file_of_the_users_is_no_error(own: Path, text: str) -> None:
    assert catalogue.mirrors("pypi", own) == catalogue.mirrors("pypi")
    own.write_text(text)
    assert catalogue.mirrors("pypi", own) == catalogue.mirrors("pypi")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("mirrors:\n- id: a\n  kind: pypi\n", "line 2: the row has no url"),
        ("mirrors:\n- id: a\n  kind: pipy\n  url: https://a.example\n", "line 2: kind 'pipy' is none of pypi"),
        ("mirrors:\n\n- id: a\n  kind: pypi\n  url: http://a.example\n", "line 3: http://a.example is plain http"),
        (
            "mirrors:\n- id: a\n  kind: pypi\n  url: https://a.example\n  max_rate: fast\n",
            "max_rate must be a number above 0",
        ),
        (
            "mirrors:\n- id: a\n  kind: pypi\n  url: https://a.example\n  max_rate: 0\n",
            "max_rate must be a number above 0",
        ),
        ("mirrors:\n- id: a\n  kind: pypi\n  url: https://a.example\n  speed: 3\n", "'speed' means nothing here"),
        ("mirrors:\n- id: 163\n  kind: pypi\n  url: https://a.example\n", "id must be text"),
        (
            "mirrors:\n- id: a\n  kind: pypi\n  url: https://a.example\n  upstream: 'no'\n",
            "upstream must be true or false",
        ),
        ("mirrors:\n- id: a\n  kind: pypi\n  url: https://a.example\n  layout: registry\n", "layout 'registry'"),
        ("mirrors:\n- id: Auto\n  kind: pypi\n  url: https://a.example\n", "line 2: id must be one word"),
        ("mirrors:\n- id: a b\n  kind: pypi\n  url: https://a.example\n", "line 2: id must be one word"),
        ("mirror:\n- id: a\n  kind: pypi\n  url: https://a.example\n", "'mirror' means nothing here"),
        ("mirrors: []\nfoo: 1\n", "'foo' means nothing here"),
        ("mirrors: 3\n", "must be a list"),
        ("mirrors:\n- just text\n", "is not a row"),
        ("mirrors:\n- id: [a\n", "line 3 is not YAML"),
        ("mirrors: !!python/object/apply:os.system [ls]\n", "is not YAML"),
    ],
)
def test_a_bad_row_is_named_with_its_line(own: Path, text: str, problem: str) -> None:
    own.write_text(text)
    with pytest.raises(BadMirror) as caught:
        catalogue.mirrors("pypi", own)
    assert problem in str(caught.value)
    assert str(own) in str(caught.value)
    assert caught.value.hint


def test_where_the_things_of_other_kinds_are() -> None:
    assert catalogue.channel_base(catalogue.find("tuna", "conda")).endswith("/anaconda/cloud")
    assert catalogue.channel_base(catalogue.find("upstream", "conda")) == "https://conda.anaconda.org"
    assert catalogue.with_variant(catalogue.find("upstream", "pytorch"), "cpu").url.endswith("/whl/cpu")
    hugging, scope = catalogue.find("upstream", "hub"), catalogue.find("modelscope", "hub")
    assert catalogue.hub_file(hugging, "ali-vilab/i2vgen-xl", "abc", "unet/a b.bin").endswith(
        "/ali-vilab/i2vgen-xl/resolve/abc/unet/a%20b.bin"
    )
    assert catalogue.hub_file(scope, "ali-vilab/i2vgen-xl", "abc", "unet/x").endswith("FilePath=unet%2Fx")


def test_a_user_can_say_what_an_operator_allows(tmp_path: Path) -> None:
    own = tmp_path / "mirrors.yaml"
    own.write_text(
        "- id: corp\n  kind: pypi\n  url: https://a.example\n  max_rate: 5000000\n  requests_per_minute: 20\n"
    )
    found = catalogue.find("corp", "pypi", own)
    assert (found.max_rate, found.requests_per_minute) == (5_000_000, 20)
    assert catalogue.find("daocloud", "docker").max_rate == 1 << 20
