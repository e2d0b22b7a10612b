"""Environments put together from conda packages that we fetched: by the built-in solver and by the real programs."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from bootstrap.backends import conda
from bootstrap.backends.conda.build import build
from bootstrap.backends.conda.family import Program
from bootstrap.backends.conda.packages import CondaPackage
from bootstrap.errors import SetupError
from bootstrap.state import Home
from mirrors.errors import FetchFailed, NoMirror
from mirrors.fetch import Downloads
from mirrors.store import Store
from runtime import intact
from tests.bootstrap.conda_world import CPU, HTTP, environment, home_in, know, locked
from tests.conda_channel import PYTHON, SUBDIR, Package, distribution_package, package, publish, python_package
from tests.conda_programs import conda_from_index, installed
from tests.mirrors.loopback import Fault, LoopbackMirror

POISON = "channels: [https://127.0.0.1:9/evil]\ncreate_default_packages: [no-such-package]\nalways_copy: true\n"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return home_in(tmp_path / "home")


@pytest.fixture
def mirrors() -> Iterator[tuple[LoopbackMirror, ...]]:
    with ExitStack() as stack:
        yield tuple(stack.enter_context(LoopbackMirror()) for _ in range(2))


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return python_package(tmp_path_factory.mktemp("python"))


@pytest.fixture(scope="session")
def real_conda(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return conda_from_index(tmp_path_factory.mktemp("real-conda") / "root")


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of a user whose own configuration would break everything, were it read."""
    directory = tmp_path / "user"
    for name in (".condarc", ".mambarc", ".conda/environments.txt", ".config/conda/.condarc"):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text("" if name.endswith("txt") else POISON, encoding="utf-8")
    monkeypatch.setenv("HOME", str(directory))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(directory / ".config"))
    monkeypatch.setenv("CONDA_PKGS_DIRS", str(directory / "pkgs"))
    monkeypatch.setenv("MAMBA_ROOT_PREFIX", str(directory / "mamba"))
    monkeypatch.setenv("CONDA_CHANNELS", "https://127.0.0.1:9/evil")
    return directory


def fetched(home: Home, found: conda.Locked) -> Downloads:
    """Bring the packages into the store, as the install step does."""
    sources = conda.choose_sources("auto", found.parts.packages, home, HTTP)
    with Downloads(Store(home.store), HTTP, None, sources.rates, sources.per_minute) as downloads:
        for coming in [downloads.want(it.artifact, sources.urls(it)) for it in found.parts.packages]:
            coming.result()
    return downloads


def made(home: Home, found: conda.Locked, prefix: Path) -> Path:
    fetched(home, found)
    build(prefix, found.parts, home, lambda _done, _total, _note: None)
    return prefix


def tree(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("program", ["rattler", "conda", "mamba", "micromamba"])
def test_an_environment_is_what_the_channel_has_and_the_users_own_settings_are_left_alone(  # noqa: PLR0917  # fixtures
    program: str,
    home: Home,
    mirrors: tuple[LoopbackMirror, ...],
    python: Package,
    user: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    if program != "rattler":
        directory = request.getfixturevalue("real_conda") if program == "conda" else installed(program)
        monkeypatch.setenv("PATH", f"{directory}{os.pathsep}{os.environ['PATH']}")
    tool = package(
        tmp_path / "packages",
        "tool",
        files={"site-packages/tool.py": b"def main():\n    print('run')\n"},
        depends=["idna >=3", f"python {PYTHON}.*"],
        noarch="python",
    )
    packages = [python, distribution_package(tmp_path / "packages", "idna"), tool]
    for mirror in mirrors:
        publish(mirror, [*packages, package(tmp_path / "packages", "pip")])
    know(home, {"upstream": mirrors[0], "tuna": mirrors[1]})
    before = tree(user)
    found = locked(home, conda.Wanted(environment(tmp_path, "tool", "python"), CPU, program))
    assert found.recipe.backend == program
    taken = {it.sha256 for it in found.parts.packages if it.name != "pip"}  # mamba takes it wherever Python is
    assert taken == {it.sha256 for it in packages}
    prefix = made(home, found, tmp_path / "prefix")
    code = "import idna, tool, sys; tool.main(); print(idna.__file__); print(sys.prefix)"
    done = subprocess.run([prefix / "bin" / "python", "-c", code], capture_output=True, text=True, check=True)
    said = done.stdout.splitlines()
    assert said == ["run", f"{prefix}/lib/python{PYTHON}/site-packages/idna/__init__.py", str(prefix)]
    assert tree(user) == before
    assert sorted(path.name for path in (home.cache / "conda").iterdir()) == [".solve.lock"]
    records = [json.loads(path.read_text("utf-8")) for path in (prefix / "conda-meta").glob("*.json")]
    assert {record["name"] for record in records} - {"pip"} == {"python", "idna", "tool"}
    for record in records:
        assert record["url"] == f"https://conda.anaconda.org/conda-forge/{record['subdir']}/{record['fn']}"
    assert "127.0.0.1" not in "".join(map(str, records))
    site = prefix / "lib" / f"python{PYTHON}" / "site-packages"
    files = intact.package_files(site, prefix)
    assert intact.damaged(files) == intact.changed(files, lambda *_: None) == []
    (site / "tool.py").write_bytes(b"damaged\n")
    assert [(it.file.owner, it.file.path) for it in intact.damaged(files)] == [("tool", site / "tool.py")]


def test_packages_come_from_all_mirrors_and_what_is_here_is_asked_of_nobody(
    home: Home, mirrors: tuple[LoopbackMirror, ...], tmp_path: Path
) -> None:
    packages = [package(tmp_path / "p", "python", "3.11.9", files={"share/big": os.urandom(6_000_000)})]
    for mirror in mirrors:
        publish(mirror, packages)
        mirror.misbehave("*/python-*", Fault(rate=20_000_000))
    know(home, {"upstream": mirrors[0], "tuna": mirrors[1]})
    found = locked(home, environment(tmp_path, "python"))
    fetched(home, found)
    assert all(mirror.requested("*/python-*") for mirror in mirrors)
    for mirror in mirrors:
        mirror.requests.clear()
    sources = conda.choose_sources("auto", found.parts.packages, home, HTTP)
    assert sources.label == "the store"
    assert conda.none_needed(found.parts.packages, home).mirrors == ()
    assert [mirror.requests for mirror in mirrors] == [[], []]


def test_evil_bytes_under_the_right_hash_are_thrown_away_and_another_mirror_gives_the_file(
    home: Home, mirrors: tuple[LoopbackMirror, ...], tmp_path: Path
) -> None:
    packages = [package(tmp_path / "p", "python", "3.11.9", files={"share/big": os.urandom(3_000_000)})]
    for mirror in mirrors:
        publish(mirror, packages)
    know(home, {"upstream": mirrors[0], "tuna": mirrors[1]})
    found = locked(home, environment(tmp_path, "python"))
    mirrors[1].misbehave("*/python-*", Fault(tamper=True))
    prefix = made(home, found, tmp_path / "prefix")
    assert (prefix / "share" / "big").is_file()
    mirrors[0].misbehave("*/python-*", Fault(tamper=True))
    Store(home.store).remove(packages[0].sha256)
    with pytest.raises(FetchFailed):
        made(home, found, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_an_evil_file_of_another_size_is_not_taken(
    home: Home, mirrors: tuple[LoopbackMirror, ...], tmp_path: Path
) -> None:
    good = package(tmp_path / "good", "python", "3.11.9")
    evil = package(tmp_path / "evil", "python", "3.11.9", files={"bin/python": b"#!/bin/sh\necho evil\n" * 9})
    publish(mirrors[0], [good])
    publish(mirrors[1], [evil], index=[good])
    know(home, {"upstream": mirrors[0], "tuna": mirrors[1]})
    found = locked(home, environment(tmp_path, "python"))
    prefix = made(home, found, tmp_path / "prefix")
    assert not (prefix / "bin" / "python").exists()
    know(home, {"tuna": mirrors[1]})
    Store(home.store).remove(good.sha256)
    with pytest.raises((FetchFailed, NoMirror)):
        made(home, found, tmp_path / "other")


def test_a_file_that_was_changed_in_the_store_is_found_out_and_fetched_again(
    home: Home, mirrors: tuple[LoopbackMirror, ...], tmp_path: Path
) -> None:
    packages = [package(tmp_path / "p", "python", "3.11.9")]
    publish(mirrors[0], packages)
    know(home, {"upstream": mirrors[0]})
    found = locked(home, environment(tmp_path, "python"))
    fetched(home, found)
    stored = Store(home.store).path(packages[0].sha256)
    stored.chmod(0o644)
    stored.write_bytes(package(tmp_path / "evil", "python", "3.11.9", files={"bin/evil": b"evil"}).path.read_bytes())
    with pytest.raises(SetupError, match="were changed on this disk"):
        build(tmp_path / "prefix", found.parts, home, lambda _done, _total, _note: None)
    assert not stored.exists()
    assert (made(home, found, tmp_path / "again") / "share" / "python.txt").is_file()


TRICKS = {
    "a path that leads up": {"../escaped.txt": b"evil\n"},
    "a path from the root": {"{outside}/escaped.txt": b"evil\n"},
}


@pytest.mark.parametrize("trick", TRICKS)
@pytest.mark.parametrize("suffix", [".conda", ".tar.bz2"])
def test_a_package_cannot_write_outside_its_environment(
    trick: str, suffix: str, home: Home, mirrors: tuple[LoopbackMirror, ...], tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    files = {name.format(outside=outside): data for name, data in TRICKS[trick].items()}
    with_trick(home, mirrors[0], tmp_path, files, {}, suffix)
    assert [*outside.rglob("*")] == []
    assert [*tmp_path.rglob("escaped.txt")] == []


@pytest.mark.parametrize("suffix", [".conda", ".tar.bz2"])
def test_a_package_cannot_write_through_a_link_of_its_own(
    suffix: str, home: Home, mirrors: tuple[LoopbackMirror, ...], tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    with_trick(home, mirrors[0], tmp_path, {"door/escaped.txt": b"evil\n"}, {"door": str(outside)}, suffix)
    assert [*outside.rglob("*")] == []


def with_trick(
    home: Home, mirror: LoopbackMirror, directory: Path, files: dict[str, bytes], links: dict[str, str], suffix: str
) -> None:
    """Install a package with these contents, the links first; whether that succeeds is the installer's business."""
    evil = package(directory / "p", "python", "3.11.9", files=files, links=links, suffix=suffix)
    publish(mirror, [evil])
    know(home, {"upstream": mirror})
    found = locked(home, environment(directory, "python"))
    with suppress(SetupError):
        made(home, found, directory / "deep" / "prefix")


def test_a_program_that_is_missing_or_unknown_is_said(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    wanted = environment(tmp_path, "python")
    with pytest.raises(SetupError, match="mamba is not on this machine") as missing:
        locked(home, conda.Wanted(wanted, CPU, "mamba"))
    assert missing.value.hint == "install mamba, or take --backend rattler, which is built in"
    with pytest.raises(SetupError, match="there is no back end 'pip'"):
        locked(home, conda.Wanted(wanted, CPU, "pip"))


def test_the_family_means_the_first_program_that_is_there_else_the_built_in_solver(
    home: Home, mirrors: tuple[LoopbackMirror, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(mirrors[0], [package(tmp_path / "p", "python", "3.11.9")])
    know(home, {"upstream": mirrors[0]})
    locked(home, environment(tmp_path, "python"))
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    found = []
    for name in ("", "conda", "micromamba", "mamba"):
        if name:
            (programs / name).write_text("#!/bin/sh\necho mamba 1.5.8\n", encoding="utf-8")
            (programs / name).chmod(0o755)
        kept = locked(home, conda.Wanted(environment(tmp_path, "python"), CPU, conda.AUTO))  # solved before
        found.append(kept.recipe.backend)
    assert found == ["rattler", "conda", "micromamba", "mamba"]


def test_a_program_that_fails_says_what_it_said(home: Home, tmp_path: Path) -> None:
    stored = package(tmp_path / "p", "python", "3.11.9")
    Store(home.store).add(stored.path)
    program = tmp_path / "mamba"
    program.write_text(
        "#!/bin/sh\necho 'critical libmamba no space left on https://me:secret@host/x'\nexit 1\n", "utf-8"
    )
    program.chmod(0o755)
    listed = (CondaPackage("conda-forge", stored.subdir, stored.filename, stored.sha256),)
    parts = conda.Parts(listed, Program("mamba", str(program), "2.0.5"), {})
    with pytest.raises(SetupError, match=r"mamba could not install the packages: .*no space left") as failed:
        build(tmp_path / "prefix", parts, home, lambda _done, _total, _note: None)
    assert "secret" not in str(failed.value)


def test_the_helpers_packages_are_what_they_seem(tmp_path: Path) -> None:
    made_here = package(tmp_path, "one", files={"a/b": b"c"}, suffix=".tar.bz2", subdir=SUBDIR)
    with tarfile.open(made_here.path) as archive:
        assert "a/b" in archive.getnames()
