"""Without a network: --offline, and bundles that are carried to a machine that has none."""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import shutil
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from importlib.metadata import distribution
from pathlib import Path
from zipfile import ZipFile

import pytest
import uv

from bootstrap import generations, learnt_weights, offline, recipe, state, torch_builds
from bootstrap.bundles import manifest, taking, tool
from bootstrap.bundles.manifest import Bundle, Entry
from bootstrap.console import Console
from bootstrap.errors import SetupError, UsageProblem
from bootstrap.execute import Site, Work, perform
from bootstrap.learnt_weights import Changed, Learnt
from bootstrap.plan import Plan
from bootstrap.recorder import Measured, Recorder
from bootstrap.report import LOCAL
from mirrors.http import HttpSettings
from runtime.models import ModelSpec, Origin
from tests.bootstrap import hubs
from tests.conftest import Invoke, tool_in


class Nobody(socketserver.ThreadingTCPServer):
    """A proxy that answers nobody, and counts who asks."""

    daemon_threads = True

    def __init__(self) -> None:
        self.asked = 0
        super().__init__(("127.0.0.1", 0), socketserver.BaseRequestHandler)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def process_request(self, request: object, client_address: object) -> None:
        self.asked += 1
        self.shutdown_request(request)  # type: ignore[arg-type]


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Nobody]:
    """The only way out is a proxy that leads nowhere; neither uv's cache nor pip's settings help."""
    with Nobody() as server:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{server.server_address[1]}")
        for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
        yield server
        server.shutdown()


@pytest.fixture(scope="session")
def bundle(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real bundle for the demo model."""
    directory = tmp_path_factory.mktemp("bundles") / "bundle"
    written = tool_in(installed)("bundle", "--torch", "cpu", "--no-tool", str(directory), "--json")
    told = json.loads(written.stdout)
    assert (told["build"], told["model"]) == ("cpu", "demo")
    assert told["sha256"] == manifest.digest(manifest.read(directory))
    return directory


def test_a_bundle_installs_without_one_request_and_then_so_does_offline(
    bundle: Path, nobody: Nobody, tmp_path: Path
) -> None:
    carried, home = tmp_path / "carried", tmp_path / "home"
    shutil.copytree(bundle, carried)
    run = tool_in(home)
    planned = json.loads(run("install", "--bundle", str(carried), "--dry-run", "--json").stdout)
    assert [step["phase"] for step in planned["steps"]][:2] == ["bundle", "environment"]
    assert not home.exists()
    run("install", "--bundle", str(carried), "--yes")
    assert (home / "current" / "generation.json").is_file()
    shutil.rmtree(carried)
    again = json.loads(run("install", "--torch", "cpu", "--offline", "--rebuild", "--dry-run", "--json").stdout)
    assert again["mirror"] == "this machine"
    assert nobody.asked == 0


@pytest.mark.parametrize("folder", ["wheels", "models"])
def test_a_bundle_with_one_other_byte_is_refused_by_the_files_name_and_nothing_is_current(
    folder: str, bundle: Path, nobody: Nobody, tmp_path: Path
) -> None:
    carried, home = tmp_path / "carried", tmp_path / "home"
    shutil.copytree(bundle, carried, copy_function=os.link)
    file = min((path for path in (carried / folder).rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    data = file.read_bytes()
    file.unlink()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    done = tool_in(home)("install", "--bundle", str(carried), "--yes", check=False)
    assert done.returncode == 1
    assert f"{file.relative_to(carried)} of the bundle in {carried} has other bytes" in done.stderr
    assert not (home / "current").exists()
    assert nobody.asked == 0


def test_a_bundle_that_lacks_a_file_is_refused_before_anything_is_done(
    bundle: Path, home: Path, tmp_path: Path, invoke: Invoke
) -> None:
    carried = tmp_path / "carried"
    shutil.copytree(bundle, carried, copy_function=os.link)
    file = next((carried / "wheels").iterdir())
    file.unlink()
    done = invoke("install", "--bundle", str(carried), "--yes")
    assert done.exit_code == 1
    assert f"wheels/{file.name} is missing" in done.output
    assert not home.exists()


def test_writing_goes_on_where_it_was_interrupted_and_only_the_end_makes_a_bundle(
    bundle: Path, installed: Path, tmp_path: Path
) -> None:
    half = tmp_path / "half"
    shutil.copytree(bundle, half, copy_function=os.link)
    (half / manifest.NAME).rename(half / manifest.UNFINISHED)
    kept, gone, wrong, *_ = sorted((half / "wheels").iterdir())
    gone.unlink()
    wrong.unlink()
    wrong.write_bytes(b"half of it")
    (half / "wheels" / "old-1.0-py3-none-any.whl").write_bytes(b"of an earlier lock")
    (half / "notes.txt").write_text("the user's own")
    with pytest.raises(SetupError, match="not written to its end"):
        manifest.read(half)
    before = kept.stat().st_ino
    tool_in(installed)("bundle", "--torch", "cpu", "--no-tool", str(half))
    assert manifest.read(half).brings == manifest.read(bundle).brings
    assert kept.stat().st_ino == before
    assert {path.name for path in (half / "wheels").iterdir()} == {path.name for path in (bundle / "wheels").iterdir()}
    assert (half / "notes.txt").exists()


def test_what_is_in_a_directory_already_is_not_touched(home: Path, tmp_path: Path, invoke: Invoke) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    done = invoke("bundle", "--torch", "cpu", str(tmp_path / "mine"))
    assert done.exit_code == 2
    assert "is not empty" in done.output


def test_offline_says_how_many_packages_are_missing_and_names_some(home: Path, nobody: Nobody, invoke: Invoke) -> None:
    done = invoke("install", "--torch", "cpu", "--offline", "--yes")
    assert done.exit_code == 1
    pins = recipe.shipped_lock(torch_builds.find("cpu")).pins(f"{sys.version_info[0]}.{sys.version_info[1]}")
    first = ", ".join(f"{pin.name} {pin.version}" for pin in pins[:3])
    said = " ".join(done.output.split())
    assert f"{len(pins)} of {len(pins)} packages are not in {home / 'cache' / 'store'}: " in said
    assert f"{first} and {len(pins) - 3} more" in said
    assert "bundle" in done.output
    assert nobody.asked == 0
    assert not (home / "envs").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 99}, "format 99"),
        ({"arch": "vax"}, "vax"),
        ({"files": [{"path": "../up", "size": 1, "sha256": "0" * 64}]}, "../up"),
        ({"files": [{"path": "/etc/passwd", "size": 1, "sha256": "0" * 64}]}, "/etc/passwd"),
        ({"files": [{"path": "a", "size": -1, "sha256": "0" * 64}]}, "no size"),
        ({"files": [{"path": "a", "size": 1, "sha256": "zz"}]}, "no sha256"),
        ({"files": [{"path": "wheels/x.txt", "size": 1, "sha256": "0" * 64}]}, "no name that a wheel has"),
        ({"files": [{"path": "wheels/a/b-1-py3-none-any.whl", "size": 1, "sha256": "0" * 64}]}, "no name that a wheel"),
        ({"files": [{"path": "a\x1b[2J", "size": 1, "sha256": "0" * 64}]}, "no name of a file"),
        ({"files": []}, "lock"),
        ({"python": "3.11/../../bin/evil"}, "no version of Python"),
        ({"build": None}, "no text"),
    ],
)
def test_a_manifest_that_no_bundle_has_is_refused(change: dict[str, object], says: str, tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("")
    here = (platform.system(), platform.machine(), "cpu", "3.11")
    entry = Entry("lock", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    good = Bundle(tmp_path, "0.1.0", "2026-01-02T03:04:05+00:00", *here, "lock", "lock", "demo", (entry,))
    (tmp_path / manifest.NAME).write_text(good.text())
    assert manifest.read(tmp_path) == good
    (tmp_path / manifest.NAME).write_text(json.dumps({**json.loads(good.text()), **change}))
    with pytest.raises((SetupError, UsageProblem), match=says):
        manifest.read(tmp_path)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"format": ' * 100_000, "7", "\x00"])
def test_a_manifest_that_is_none_at_all_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / manifest.NAME).write_text(text)
    with pytest.raises(SetupError, match="damaged"):
        manifest.read(tmp_path)


def of_files(directory: Path, files: dict[str, bytes]) -> Bundle:
    """A bundle of these files."""
    for name, data in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(data)
    entries = tuple(Entry(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items())
    here = (platform.system(), platform.machine(), "cpu", "3.11")
    return Bundle(directory, "0.1.0", "2026-01-02T03:04:05+00:00", *here, "lock", "lock", "demo", entries)


def learnt_lock(directory: Path, rows: dict[Origin, Learnt | None]) -> bytes:
    """A lock of model files that says this."""
    learnt_weights.add(directory / "lock.json", rows)
    return (directory / "lock.json").read_bytes()


def test_a_bundle_teaches_the_files_of_its_own_model_alone_and_as_its_own_word(home: Path, tmp_path: Path) -> None:
    weights_file, evil = hubs.FILES[hubs.WEIGHTS], Origin("org/other", "r9", "model.safetensors")
    mine, index = (Origin(hubs.REPO, hubs.REVISION, path) for path in (hubs.WEIGHTS, "model_index.json"))
    told = Learnt(len(weights_file), hubs.sha256(weights_file), "https://the-hub.example", "2026-01-02")
    rows = {mine: told, evil: replace(told, sha256="e" * 64), index: None}
    carried = tmp_path / "carried"
    files = {f"models/m/{hubs.WEIGHTS}": weights_file, taking.LEARNT: learnt_lock(tmp_path, rows), "lock": b""}
    bundle, spec = of_files(carried, files), hubs.spec(tmp_path, open_=hubs.FILES)
    with pytest.raises(SetupError, match=r"2 of the 2 files of .* are not in"):
        offline.require_model(state.home(), spec, bundle.brings)
    with pytest.raises(SetupError, match=rf"1 of the 2 files of .*: {index.path}"):  # the model does not do without it
        offline.require_model(state.home(), spec, bundle.brings, taking.learnt(bundle, spec))
    said = take(bundle, spec)
    kept = learnt_weights.read(state.home().weights_lock)
    assert set(kept) == {mine}
    assert kept[mine] == replace(told, source=f"the bundle {manifest.digest(bundle)[:12]}", day=said.day)
    assert "of 1 of the 2 files of " in said.text
    assert "the bundle's word" in said.text
    assert take(bundle, spec).text == ""


def test_what_was_learnt_before_from_the_publisher_stays_the_publishers_word(home: Path, tmp_path: Path) -> None:
    data, origin = hubs.FILES[hubs.WEIGHTS], Origin(hubs.REPO, hubs.REVISION, hubs.WEIGHTS)
    first = Learnt(len(data), hubs.sha256(data), "https://the-hub.example", "2026-01-02")
    learnt_weights.add(state.home().weights_lock, {origin: first})
    spec = hubs.spec(tmp_path, open_=hubs.FILES)
    files = {f"models/m/{hubs.WEIGHTS}": data, taking.LEARNT: learnt_lock(tmp_path, {origin: first})}
    take(of_files(tmp_path / "same", files), spec)
    assert learnt_weights.read(state.home().weights_lock) == {origin: first}
    files = {"models/m/evil": b"evil", taking.LEARNT: learnt_lock(tmp_path / "b", {origin: of_evil(first)})}
    with pytest.raises(Changed):
        take(of_files(tmp_path / "other", files), spec)
    assert learnt_weights.read(state.home().weights_lock) == {origin: first}


def of_evil(row: Learnt) -> Learnt:
    return replace(row, size=4, sha256=hubs.sha256(b"evil"))


@dataclass
class Said:
    """What a step told people, and on which day."""

    text: str
    day: str


def take(bundle: Bundle, spec: ModelSpec) -> Said:
    """Take a bundle in, as an installation of that model does."""
    home, build = state.home(), torch_builds.find("cpu")
    made_from = recipe.Recipe(build, recipe.Python("3.11", "3.11"), recipe.shipped_lock(build))
    plan = Plan(generations.of(home, made_from), made_from, spec, ())
    console, recorder, measured = Console(), Recorder("install"), Measured()
    console.err.file = io.StringIO()
    site = Site(home, HttpSettings(), recorder, console, offline=True)
    with Console(quiet=True).working("take") as task:
        perform(taking.step(home, bundle), Work(plan, site, task, measured))
    assert set(measured.sources) == {LOCAL}
    return Said(console.err.file.getvalue(), datetime.now(timezone.utc).date().isoformat())


def test_a_dry_run_with_a_lock_of_ones_own_changes_nothing(home: Path, tmp_path: Path, invoke: Invoke) -> None:
    own = tmp_path / "own.txt"
    shutil.copyfile(recipe.lock_of(torch_builds.find("cpu")), own)
    arguments = ("install", "--torch", "cpu", "--requirements", str(own), "--dry-run", "--json")
    planned = json.loads(invoke(*arguments).stdout)
    assert planned["lock"]["name"] == "own.txt"
    assert not home.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--offline", "--no-hashes", "--requirements", __file__),
        ("--no-hashes",),
        ("--upgrade",),
        ("--backend", "mamba", "--python", "3.12"),
        ("--backend", "nonesuch"),
        ("--python", "2.7"),
        ("--python", "abc"),
    ],
)
def test_options_of_install_that_do_not_go_together(arguments: tuple[str, ...], invoke: Invoke) -> None:
    done = invoke("install", "--torch", "cpu", "--dry-run", *arguments)
    assert done.exit_code == 2, done.output
    assert "hint: " in done.output


def test_the_tools_own_wheel_put_together_from_an_installation_is_one_that_installs(tmp_path: Path) -> None:
    path = tool._put_together(distribution("click"), tmp_path)
    with ZipFile(path) as archive:
        assert archive.testzip() is None
    target = tmp_path / "target"
    command = [uv.find_uv_bin(), "pip", "install", "--quiet", "--offline", "--no-deps", "--target", str(target)]
    subprocess.run([*command, str(path)], check=True)
    told = subprocess.run(
        [sys.executable, "-S", "-c", "import click, sys; print(click.__file__)"],
        env={**os.environ, "PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.startswith(str(target))
