"""A user's own requirements.txt and pylock.toml: read strictly, or resolved by the real uv from a loopback index."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bootstrap import requirements, state
from bootstrap.errors import SetupError
from bootstrap.packages import PackageSources
from bootstrap.recipe import Lock
from bootstrap.requirements import BadRequirements
from tests.bootstrap.test_recommend import with_gpus
from tests.mirrors.loopback import LoopbackMirror
from tests.small_wheels import small_wheel

A, B = "a" * 64, "b" * 64


def read(tmp_path: Path, text: str, name: str = "requirements.txt", said: list[str] | None = None) -> Lock:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return requirements.lock(state.home(), path, "3.12", say=(said if said is not None else []).append)


def test_a_lock_of_pip_tools_is_read_with_markers_extras_comments_and_continued_lines(
    home: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    lock = read(
        tmp_path,
        "# made by pip-compile\n--index-url https://user:secret@index.example/simple\n--only-binary :all:\n"
        f"Demo[fast]==1.0 ; python_version >= '3.12' \\\n    --hash=sha256:{A} \\\n    --hash=sha256:{B}\n"
        f"    # via -r requirements.in\nother==2.0 --hash sha256:{A.upper()} --hash=sha512:{'c' * 128}  # why\n"
        f"old==1 ; python_version < '3.12' --hash=sha256:{A}\n",
        said=said,
    )
    pins = lock.pins("3.12")
    assert [(pin.name, pin.version, pin.sha256s) for pin in pins] == [
        ("demo", "1.0", frozenset({A, B})),
        ("other", "2.0", frozenset({A})),
    ]
    assert lock.name == "requirements.txt"
    assert "--index-url" in said[0]
    assert "secret" not in "".join(said) + lock.path.read_text()


def test_the_same_content_is_the_same_lock_and_other_content_another(home: Path, tmp_path: Path) -> None:
    line = f"demo==1.0 --hash=sha256:{A}\n"
    first = read(tmp_path, line)
    assert read(tmp_path, f"# a comment\n\n{line}") == first
    assert read(tmp_path, line.replace(A, B)) != first


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("demo==1.0", "no sha256"),
        (f"demo>=1.0 --hash=sha256:{A}", "no single version"),
        (f"demo==1.* --hash=sha256:{A}", "no single version"),
        (f"demo --hash=sha256:{A}", "no single version"),
        (f"demo==1.0,!=1.1 --hash=sha256:{A}", "no single version"),
        ("demo==1.0 --hash=md5:123", "other hashes"),
        ("-e .", "editable"),
        ("--editable=git+https://host.example/x", "editable"),
        ("-r more.txt", "another file"),
        ("-c limits.txt", "another file"),
        ("--no-binary demo", "not supported"),
        ("demo==1.0 --config-settings=x", "not supported"),
        (f"demo @ https://host.example/demo-1.0-py3-none-any.whl --hash=sha256:{A}", "address"),
        ("https://host.example/demo-1.0-py3-none-any.whl", "address"),
        ("git+https://host.example/demo", "address"),
        ("./wheels/demo-1.0-py3-none-any.whl", "address"),
        ("demo-1.0-py3-none-any.whl", "address"),
        ("!!", "no requirement"),
        ("demo==1.0 ; python_version ~ '3'", "no requirement"),
    ],
)
def test_a_line_that_is_no_lock_is_named_by_its_number(home: Path, tmp_path: Path, line: str, told: str) -> None:
    with pytest.raises(BadRequirements, match=told) as caught:
        read(tmp_path, f"# one\nfine==1 \\\n  --hash=sha256:{A}\n{line}\n")
    assert str(caught.value).startswith("requirements.txt, line 4: ")
    assert caught.value.hint


@pytest.mark.parametrize(
    "line",
    [
        "git+https://user:hunter2@host.example/x",
        "demo == https://user:hunter2@host.example",
        "-ihttps://user:hunter2@host.example/simple",  # pip takes it for -i and an address
        "demo==1.0 -ihttps://user:hunter2@host.example/simple",
    ],
)
def test_a_password_in_a_line_is_in_no_message(home: Path, tmp_path: Path, line: str) -> None:
    with pytest.raises(BadRequirements) as caught:
        read(tmp_path, line)
    assert "hunter2" not in str(caught.value) + caught.value.hint


@pytest.mark.parametrize("line", ["x" * 100_000, f"demo=={'1' * 100_000}!", f"https://host.example/{'x' * 100_000}"])
def test_a_message_shows_only_the_beginning_of_a_long_line(home: Path, tmp_path: Path, line: str) -> None:
    with pytest.raises(BadRequirements) as caught:
        read(tmp_path, line)
    assert len(str(caught.value)) < 1000


def test_versions_are_compared_and_not_their_spellings(home: Path, tmp_path: Path) -> None:
    lock = read(tmp_path, f"demo==1.0RC1 --hash=sha256:{A}\nother==2.0+CU126 --hash=sha256:{A}\n")
    assert [pin.version for pin in lock.pins("3.12")] == ["1.0rc1", "2.0+cu126"]


@pytest.mark.parametrize("second", ["Demo==1.0", "demo==2.0", "demo==1.0 ; python_version >= '3.11'"])
def test_a_package_that_is_there_twice_is_refused(home: Path, tmp_path: Path, second: str) -> None:
    with pytest.raises(SetupError, match=r"requirements\.txt: demo is there twice for this machine"):
        read(tmp_path, f"demo==1.0 --hash=sha256:{A}\n{second} --hash=sha256:{B}\n")


def test_a_package_may_be_there_twice_where_markers_part_it(home: Path, tmp_path: Path) -> None:
    line = "demo==%d ; python_version %s '3.12' --hash=sha256:%s\n"
    lock = read(tmp_path, line % (1, "<", A) + line % (2, ">=", B))
    assert [pin.version for pin in lock.pins("3.12")] == ["2"]


def test_a_file_of_windows_with_a_very_long_name_is_read(home: Path, tmp_path: Path) -> None:
    path = tmp_path / f"{'r' * 240}.txt"
    path.write_bytes(b"\xef\xbb\xbf" + f"demo==1.0 \\\r\n    --hash=sha256:{A}\r\n".encode())
    (pin,) = requirements.lock(state.home(), path, "3.12").pins("3.12")
    assert (pin.name, pin.sha256s) == ("demo", frozenset({A}))


def test_the_same_file_may_be_read_by_several_at_once(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "requirements.txt"
    path.write_text(f"demo==1 --hash=sha256:{A}\n", encoding="utf-8")
    with ThreadPoolExecutor(8) as pool:
        locks = list(pool.map(lambda _: requirements.lock(state.home(), path, "3.12"), range(24)))
    assert len(set(locks)) == 1


def test_a_file_without_requirements_or_that_is_not_there_is_refused(home: Path, tmp_path: Path) -> None:
    with pytest.raises(BadRequirements, match="no requirement"):
        read(tmp_path, "# nothing\n")
    with pytest.raises(SetupError, match="No such file"):
        requirements.lock(state.home(), tmp_path / "absent.txt", "3.12")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SetupError, match="not text"):
        requirements.lock(state.home(), tmp_path / "binary.txt", "3.12")


PYLOCK = f"""
lock-version = "1.0"
created-by = "a test"
requires-python = ">=3.11"

[[packages]]
name = "demo"
version = "1.0"
index = "https://index.example/simple"
wheels = [
    {{name = "demo-1.0-py3-none-any.whl", url = "https://evil.example/x.whl", size = 7, hashes = {{sha256 = "{A}"}}}},
    {{url = "https://h.example/demo-1.0%2Bx-cp312-cp312-linux_x86_64.whl?q", hashes = {{sha256 = "{B}", md5 = "1"}}}},
]

[[packages]]
name = "windows-only"
version = "2.0"
marker = "sys_platform == 'win32'"
wheels = [{{path = "wheels/windows_only-2.0-py3-none-any.whl", hashes = {{sha256 = "{A}"}}}}]
"""


def test_a_pylock_is_read_by_names_hashes_and_markers_and_its_addresses_are_not_used(
    home: Path, tmp_path: Path
) -> None:
    lock = read(tmp_path, PYLOCK, "pylock.toml")
    (pin,) = lock.pins("3.12", {"sys_platform": "linux"})
    assert (pin.name, pin.version, pin.sha256s) == ("demo", "1.0", frozenset({A, B}))
    assert set(pin.names) >= {("demo-1.0-py3-none-any.whl", A), ("demo-1.0+x-cp312-cp312-linux_x86_64.whl", B)}
    assert {found.name for found in lock.pins("3.12", {"sys_platform": "win32"})} == {"demo", "windows-only"}
    assert ".example" not in lock.path.read_text()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('lock-version = "1.0"', 'lock-version = "2.0"', "lock-version is 2.0"),
        ('lock-version = "1.0"', "", "lock-version is missing"),
        ('lock-version = "1.0"', "lock-version = ", "line 2: it is no TOML"),
        ('">=3.11"', '">=3.13"', "for Python >=3.13"),
        (f'{{sha256 = "{B}", md5 = "1"}}', '{md5 = "1"}', r"package 1 \(demo\): .* no sha256"),
        ('version = "1.0"\nindex', "index", "no version"),
        ("marker = \"sys_platform == 'win32'\"", "marker = \"'x' in extras\"", "extras or groups"),
        (
            'wheels = [{path = "wheels/windows',
            'directory = {path = "."}\nwheels = [{path = "wheels/windows',
            "directory",
        ),
        ('wheels = [{path = "wheels/windows', 'sdist = {}\nnothing = [{path = "wheels/windows', "only a source distri"),
        ("[[packages]]", "[[tool.packages]]", "locks no package"),
        ("[[packages]]", f"deep = {'[' * 5000}\n[[packages]]", "no TOML|so deep"),
        ('version = "1.0"\nindex', 'version = "1.*"\nindex', "no version"),
        ('name = "demo"', 'name = "demo @ https://evil.example/x"', "has no name"),
        ('name = "demo"', 'name = "demo>=0,"', "has no name"),
        ('"demo-1.0-py3', '"evil-6.6-py3', "a wheel of something else"),
        ('"demo-1.0-py3', '"demo-2.0-py3', "a wheel of something else"),
        ('"demo-1.0-py3-none-any.whl"', f'"x\\nevil==6.6 --hash=sha256:{B}\\n#.whl"', "no wheel's name"),
        ('"demo-1.0-py3-none-any.whl"', '"demo-1.0-py3-none-any\\n.whl"', "no wheel's name"),
        (f'sha256 = "{A}"', f'sha256 = "{"g" * 64}"', "has no sha256"),
        (f'sha256 = "{A}"', f'sha256 = "a\\nevil==6.6 --hash=sha256:1234{"b" * 34}"', "has no sha256"),
        (f'hashes = {{sha256 = "{A}"}}', 'hashes = "none"', "has no sha256"),
        ('wheels = [{path = "wheels/windows', 'wheels = {}\nmore = [{path = "wheels/windows', "no file"),
        ("marker = \"sys_platform == 'win32'\"", "marker = \"python_version ~= 'abc'\"", "makes no sense"),
        ('name = "windows-only"\nversion = "2.0"', 'name = "Demo"\nversion = "1.0"', "a wheel of something else"),
    ],
)
def test_a_pylock_that_cannot_be_installed_says_which_package(
    home: Path, tmp_path: Path, old: str, new: str, told: str
) -> None:
    assert old in PYLOCK
    with pytest.raises(SetupError, match=told) as caught:
        read(tmp_path, PYLOCK.replace(old, new), "pylock.toml")
    assert str(caught.value).startswith("pylock.toml")
    assert caught.value.hint


@pytest.fixture
def index() -> Iterator[LoopbackMirror]:
    with LoopbackMirror() as server:
        for name in ("alpha", "beta"):
            server.add(*small_wheel(name))
        yield server


class Resolver:
    """The index to resolve from, and how often it was asked for."""

    def __init__(self, server: LoopbackMirror) -> None:
        self.sources = PackageSources("loopback", server.index_url)
        self.asked = 0

    def __call__(self) -> PackageSources:
        self.asked += 1
        return self.sources


def resolved(tmp_path: Path, text: str, by: Resolver, said: list[str], *, again: bool = False) -> Lock:
    path = tmp_path / "requirements.txt"
    path.write_text(text, encoding="utf-8")
    return requirements.lock(state.home(), path, "3.12", resolve_from=by, again=again, say=said.append)


def test_lines_without_version_or_hash_are_resolved_once_and_the_result_is_kept(
    home: Path, tmp_path: Path, index: LoopbackMirror
) -> None:
    by, said = Resolver(index), list[str]()
    lock = resolved(tmp_path, "alpha>=0.5\nbeta ; python_version > '3'\n", by, said)
    assert {pin.name: pin.sha256s for pin in lock.pins("3.12")} == {
        name: frozenset({hashlib.sha256(small_wheel(name)[1]).hexdigest()}) for name in ("alpha", "beta")
    }
    assert "2 packages" in said[0]
    requests = len(index.requests)
    assert resolved(tmp_path, "alpha>=0.5\nbeta ; python_version > '3'\n", by, said) == lock
    assert (by.asked, len(index.requests), len(said)) == (1, requests, 1)
    assert resolved(tmp_path, "alpha>=0.5\nbeta ; python_version > '3'\n", by, said, again=True) == lock
    assert by.asked == 2


def test_what_has_all_hashes_is_not_resolved(home: Path, tmp_path: Path, index: LoopbackMirror) -> None:
    by = Resolver(index)
    lock = resolved(tmp_path, f"alpha==1.0 --hash=sha256:{A}\n", by, [])
    assert [pin.sha256s for pin in lock.pins("3.12")] == [frozenset({A})]
    assert by.asked == 0


def test_a_hash_that_the_user_gave_counts_against_the_index(home: Path, tmp_path: Path, index: LoopbackMirror) -> None:
    with pytest.raises(BadRequirements, match=r"line 2: the index has no file of alpha 1\.0"):
        resolved(tmp_path, f"beta\nalpha==1.0 --hash=sha256:{A}\n", Resolver(index), [])
    right = hashlib.sha256(small_wheel("alpha")[1]).hexdigest()
    lock = resolved(tmp_path, f"beta\nalpha==1.0 --hash=sha256:{A} --hash=sha256:{right}\n", Resolver(index), [])
    assert {pin.name: pin.sha256s for pin in lock.pins("3.12")}["alpha"] == frozenset({right})


def test_requirements_that_no_index_has_are_one_clear_error(home: Path, tmp_path: Path, index: LoopbackMirror) -> None:
    with pytest.raises(SetupError, match=r"could not be resolved.*gamma") as caught:
        resolved(tmp_path, "gamma\n", Resolver(index), [])
    assert caught.value.hint
    assert not list(home.rglob("*.txt"))


def test_what_cannot_be_locked_is_refused_before_it_is_resolved(
    home: Path, tmp_path: Path, index: LoopbackMirror
) -> None:
    by = Resolver(index)
    with pytest.raises(BadRequirements, match="line 2"):
        resolved(tmp_path, "alpha\n-e .\n", by, [])
    assert by.asked == 0


@pytest.mark.parametrize(
    ("line", "warned"),
    [
        (f"torch==2.13.0+cu126 --hash=sha256:{A}", ""),
        (f"torch==2.8.0+cu126 --hash=sha256:{A}", ""),
        (f"torch==2.13.0 --hash=sha256:{A}", "cu130 needs driver 580"),
        (f"torch==2.9.1 --hash=sha256:{A}", ""),
        (f"torch==2.9.1+xpu --hash=sha256:{A}", ""),
        (f"demo==1.0 --hash=sha256:{A}", "no torch"),
    ],
)
def test_a_torch_that_cannot_run_here_is_warned_of(home: Path, tmp_path: Path, line: str, warned: str) -> None:
    here = with_gpus("535.183.01", ("RTX 3060", 12, (8, 6)))
    told = requirements.warnings(read(tmp_path, line), "3.12", here)
    assert bool(told) == bool(warned)
    assert warned in "".join(told)
