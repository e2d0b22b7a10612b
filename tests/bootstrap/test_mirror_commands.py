"""The mirrors commands as a user types them, against loopback mirrors; the real tools read what was written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import uv

from bootstrap import config_files, machine, mirror_samples, recipe, recommend, torch_builds
from bootstrap.errors import UsageProblem
from tests.bootstrap import made_up
from tests.conftest import Invoke
from tests.mirrors.loopback import Fault, LoopbackMirror
from tests.mirrors.real_tools import UV, Conda, uv_indexes
from tests.small_wheels import small_wheel

PIP_CONF = "# mine\n[global]\ntimeout = 60\nindex-url = https://old.example/simple  ; the old one\n"
UV_TOML = '# mine\n[[index]]\nname = "pytorch-cu128"\nurl = "https://download.pytorch.org/whl/cu128"\nexplicit = true\n'


@pytest.fixture
def mirror() -> Iterator[LoopbackMirror]:
    """A mirror that lists the file which the lock pins, and serves something that begins like it."""
    (pin,) = (pin for pin in recipe.shipped_lock(torch_builds.find("cpu")).pins("3.11") if pin.name == "transformers")
    with LoopbackMirror() as mirror:
        name = f"transformers-{pin.version}-py3-none-any.whl"
        mirror.add(name, b"PK" + bytes(300_000), listed_sha256=min(pin.sha256s))
        yield mirror


@pytest.fixture
def files(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """A user's own pip.conf and uv.toml."""
    config = tmp_path / "config"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(config))
    for name in ("PIP_CONFIG_FILE", "UV_CONFIG_FILE", "CONDARC", "MAMBARC", "PIP_INDEX_URL", "UV_DEFAULT_INDEX"):
        monkeypatch.delenv(name, raising=False)
    found = {"pip": config / "pip" / "pip.conf", "uv": config / "uv" / "uv.toml"}
    for name, text in (("pip", PIP_CONF), ("uv", UV_TOML)):
        found[name].parent.mkdir(parents=True)
        found[name].write_text(text, encoding="utf-8")
    return found


def test_a_mirror_is_written_for_pip_and_uv_and_undo_gives_the_very_bytes_back(
    files: dict[str, Path], mirror: LoopbackMirror, invoke: Invoke
) -> None:
    done = invoke("mirrors", "use", mirror.index_url, "--scope", "user")
    assert done.exit_code == 0, done.output
    environment = {**os.environ, "PIP_CONFIG_FILE": str(files["pip"])}
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert f"global.index-url='{mirror.index_url}'" in listing
    assert "global.timeout='60'" in listing
    settings = subprocess.run(
        [uv.find_uv_bin(), "--config-file", str(files["uv"]), "pip", "compile", "--show-settings", "-"],
        input="", capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert mirror.index_url.split("/")[2].split(":")[1] in settings
    assert "pytorch-cu128" in files["uv"].read_text(encoding="utf-8")
    undone = invoke("undo")
    assert undone.output.count("restored") == 2
    assert files["pip"].read_text(encoding="utf-8") == PIP_CONF
    assert files["uv"].read_text(encoding="utf-8") == UV_TOML


def test_a_dry_run_shows_the_difference_and_writes_nothing(
    files: dict[str, Path], mirror: LoopbackMirror, invoke: Invoke
) -> None:
    done = invoke("mirrors", "use", mirror.index_url, "--scope", "user", "--dry-run")
    assert done.exit_code == 0, done.output
    assert "-index-url = https://old.example/simple" in done.output
    assert f"+index-url = {mirror.index_url}" in done.output
    assert files["pip"].read_text(encoding="utf-8") == PIP_CONF
    assert "nothing to undo" in invoke("undo").output


def test_undo_leaves_a_file_alone_that_was_changed_since(
    files: dict[str, Path], mirror: LoopbackMirror, invoke: Invoke
) -> None:
    invoke("mirrors", "use", mirror.index_url, "--scope", "user")
    files["pip"].write_text("[global]\nindex-url = https://newer.example/simple\n", encoding="utf-8")
    undone = invoke("undo")
    assert undone.exit_code == 1
    assert f"{files['pip']}: changed or linked elsewhere since, so left as it is" in undone.output
    assert "newer.example" in files["pip"].read_text(encoding="utf-8")
    assert files["uv"].read_text(encoding="utf-8") == UV_TOML
    invoke("mirrors", "use", mirror.index_url, "--scope", "user")
    again = invoke("undo")
    assert again.exit_code == 0
    assert again.output.count("restored") == 2
    assert "left as it is" not in again.output
    assert "newer.example" in files["pip"].read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["pypi", "pytorch"])
def test_a_directory_of_wheels_is_not_written_as_an_index(
    kind: str, files: dict[str, Path], tmp_path: Path, invoke: Invoke
) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for name in ("transformers", "torch"):
        (wheels / f"{name}-1.0-py3-none-any.whl").write_bytes(b"PK")
    done = invoke("mirrors", "use", wheels.as_uri(), "--kind", kind, "--scope", "user")
    assert done.exit_code == 2
    assert "is a directory of wheels" in done.output
    assert "hint: name it as find-links" in done.output
    assert files["uv"].read_text(encoding="utf-8") == UV_TOML


def test_a_local_index_is_written(files: dict[str, Path], tmp_path: Path, invoke: Invoke) -> None:
    (pin,) = (pin for pin in recipe.shipped_lock(torch_builds.find("cpu")).pins("3.11") if pin.name == "transformers")
    project = tmp_path / "tree" / "transformers"
    project.mkdir(parents=True)
    name = f"transformers-{pin.version}-py3-none-any.whl"
    (project / name).write_bytes(b"PK")
    (project / "index.html").write_text(f'<a href="{name}">{name}</a>', encoding="utf-8")
    done = invoke("mirrors", "use", project.parent.as_uri(), "--scope", "user", "--dry-run")
    assert done.exit_code == 0, done.output
    assert f"+index-url = {project.parent.as_uri()}" in done.output


@pytest.mark.parametrize(
    ("fault", "says"),
    [(Fault(status=403), "refuses"), (Fault(portal=True), "web page"), (Fault(status=404), "lacks transformers")],
)
def test_a_mirror_that_cannot_serve_the_lock_is_refused_with_the_reason_and_nothing_is_written(
    fault: Fault, says: str, files: dict[str, Path], mirror: LoopbackMirror, invoke: Invoke
) -> None:
    mirror.misbehave("/simple/*", fault)
    done = invoke("mirrors", "use", mirror.index_url, "--scope", "user")
    assert done.exit_code == 1
    assert says in done.output
    assert files["pip"].read_text(encoding="utf-8") == PIP_CONF


def test_a_broken_file_of_the_users_is_named_and_nothing_is_written(
    files: dict[str, Path], mirror: LoopbackMirror, invoke: Invoke
) -> None:
    files["uv"].write_text("[[index]\n", encoding="utf-8")
    done = invoke("mirrors", "use", mirror.index_url, "--scope", "user")
    assert done.exit_code == 1
    assert str(files["uv"]) in done.output
    assert files["pip"].read_text(encoding="utf-8") == PIP_CONF


CONDA_FILE = "conda-forge/noarch/font-ttf-ubuntu-0.83-h77eed37_3.conda"


@pytest.fixture
def channels(mirror: LoopbackMirror) -> str:
    """The address of a conda mirror that has the file which conda mirrors are measured on."""
    mirror.add(CONDA_FILE, bytes(1_620_504))
    return f"{mirror.base}/files"


def test_a_conda_mirror_is_written_for_conda_and_mamba_and_conda_reads_it(
    files: dict[str, Path], channels: str, tmp_path: Path, invoke: Invoke, conda: Conda
) -> None:
    condarc, mambarc = tmp_path / ".condarc", tmp_path / ".mambarc"
    condarc.write_text("channels:\n  - bioconda  # mine\n", encoding="utf-8")
    done = invoke("mirrors", "use", channels, "--kind", "conda", "--scope", "user")
    assert done.exit_code == 0, done.output
    read = conda.reads_for(tmp_path)
    assert read["channels"] == ["conda-forge", "bioconda"]
    assert read["urls"]["conda-forge"][-1] == f"{channels}/conda-forge/noarch"
    assert conda.reads(mambarc.rename(tmp_path / "mamba.yml"))[0]["urls"]["conda-forge"] == read["urls"]["conda-forge"]
    (tmp_path / "mamba.yml").rename(mambarc)
    assert invoke("mirrors", "use", channels, "--kind", "conda", "--scope", "user").output.count("nothing to change")
    invoke("undo")
    assert condarc.read_text(encoding="utf-8") == "channels:\n  - bioconda  # mine\n"
    assert not mambarc.exists()


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault(status=404), "does not have it"),
        (Fault(status=403), "refuses"),
        (Fault(portal=True), "web page"),
        (Fault(hang=True), "does not answer"),
    ],
)
def test_a_conda_mirror_that_lacks_the_channel_is_not_written(
    fault: Fault,
    says: str,
    files: dict[str, Path],
    channels: str,
    tmp_path: Path,
    mirror: LoopbackMirror,
    invoke: Invoke,
) -> None:
    mirror.misbehave("/files/conda-forge/*", fault)
    done = invoke("mirrors", "use", channels, "--kind", "conda", "--scope", "user")
    assert done.exit_code == 1
    assert says in done.output
    assert not (tmp_path / ".condarc").exists()


@pytest.fixture
def torch_mirror(other_mirror: LoopbackMirror) -> LoopbackMirror:
    """A mirror of PyTorch's index that has this machine's build of torch, and a package that has no business there."""
    build = recommend.recommend(machine.detect()).torch.build
    (pin,) = (pin for pin in recipe.shipped_lock(build).pins(build.pythons[0]) if pin.name == "torch")
    version = pin.version if build.torch_bytes else f"{pin.version}+{mirror_samples.torch_variant(build)}"
    name = f"torch-{version}-cp311-cp311-manylinux_2_28_x86_64.whl"
    other_mirror.add(name, b"PK" + bytes(300_000), listed_sha256=min(pin.sha256s))
    other_mirror.add("tiny_package-9.0-py3-none-any.whl", small_wheel("tiny_package")[1])
    return other_mirror


@pytest.fixture
def other_mirror() -> Iterator[LoopbackMirror]:
    with LoopbackMirror() as mirror:
        yield mirror


def test_an_index_for_torch_is_written_and_stands_in_for_no_other_package(
    files: dict[str, Path], mirror: LoopbackMirror, torch_mirror: LoopbackMirror, tmp_path: Path, invoke: Invoke
) -> None:
    mirror.add(*small_wheel("tiny_package"))
    invoke("mirrors", "use", mirror.index_url, "--scope", "user")
    done = invoke("mirrors", "use", torch_mirror.index_url, "--kind", "pytorch", "--scope", "user")
    assert done.exit_code == 0, done.output
    assert files["pip"].read_text(encoding="utf-8").count(torch_mirror.index_url) == 0
    assert "pip.conf stays" in done.output
    variant = mirror_samples.torch_variant(recommend.recommend(machine.detect()).torch.build)
    (ours,) = [index for index in uv_indexes(files["uv"]) if index["url"] == torch_mirror.index_url]
    assert (ours["name"], ours["explicit"], ours["format"]) == (f"pytorch-{variant}", "true", "Simple")
    before = len(torch_mirror.requests)
    resolved = subprocess.run(
        [UV, "--config-file", str(files["uv"]), "--no-cache", "pip", "compile", "--no-deps", "-"],
        input="tiny-package", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "tiny-package==1.0" in resolved.stdout, resolved.stderr
    assert len(torch_mirror.requests) == before


def test_a_mirror_of_another_kind_is_not_written_and_the_hint_says_what_to_do(invoke: Invoke, home: Path) -> None:
    for kind, hint in (("docker", "daemon.json"), ("hub", "HF_ENDPOINT"), ("apt", "sources.list"), ("python", "UV_")):
        done = invoke("mirrors", "use", "auto", "--kind", kind)
        assert done.exit_code == 2
        assert "hint: " in done.output
        assert hint in done.output


def test_an_unknown_kind_names_the_known_ones(invoke: Invoke) -> None:
    for command in (("mirrors", "use", "auto"), ("mirrors", "test")):
        done = invoke(*command, "--kind", "nonesuch")
        assert done.exit_code == 2
        assert "known: pypi, pytorch, conda" in done.output


def test_options_of_the_list_before_a_command_are_wrong_usage(invoke: Invoke) -> None:
    done = invoke("mirrors", "--kind", "conda", "test")
    assert done.exit_code == 2
    assert "go behind the command" in done.output


def test_mirrors_are_measured_and_each_verdict_is_explained(mirror: LoopbackMirror, invoke: Invoke) -> None:
    with LoopbackMirror() as empty:
        named = (mirror.index_url, empty.index_url)
        found = json.loads(invoke("mirrors", "test", "--json", *named).stdout)
        done = invoke("mirrors", "test", *named)
        assert done.exit_code == 0
        table = done.stdout
        assert {one.index_url.partition("://")[2] for one in (mirror, empty)} <= set(table.split())
        for arguments in ((), ("--json",)):
            assert invoke("mirrors", "test", empty.index_url, *arguments).exit_code == 1
    assert [it["verdict"] for it in found] == ["good", "unusable"]
    assert "lacks transformers" in found[1]["reason"]
    assert found[0]["rate"] > 0
    assert found[0]["latency"] > 0
    for words in ("mirror", "verdict", "latency", "rate", "reason", "good", "unusable", "lacks transformers"):
        assert words in table


def test_a_mirror_without_a_pinned_file_is_asked_whether_it_answers(mirror: LoopbackMirror, invoke: Invoke) -> None:
    (found,) = json.loads(invoke("mirrors", "test", "--kind", "hub", "--json", mirror.base).stdout)
    assert found["verdict"] == "good"
    assert "answers after" in found["reason"]
    assert found["requests"] == 1


def test_credentials_are_not_shown(mirror: LoopbackMirror, files: dict[str, Path], invoke: Invoke) -> None:
    secret = mirror.index_url.replace("http://", "http://me:hunter2@")
    shown = invoke("mirrors", "test", secret).output + invoke("mirrors", "test", "--json", secret).output
    shown += invoke("mirrors", "use", secret, "--scope", "user", "--dry-run").output
    assert "hunter2" not in shown
    assert "hunter2" in secret


def test_a_variable_that_wins_over_the_file_is_named(
    files: dict[str, Path], mirror: LoopbackMirror, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://secret.example/simple")
    done = invoke("mirrors", "use", mirror.index_url, "--scope", "user")
    assert f"UV_DEFAULT_INDEX is set in the environment, and wins over {files['uv']}" in done.output
    assert "secret.example" not in done.output


def test_the_environments_own_files_are_the_default(
    home: Path, mirror: LoopbackMirror, files: dict[str, Path], invoke: Invoke
) -> None:
    environment = made_up.environment(home, "cpu-py311-0123456789ab")
    before = sorted(path.name for path in environment.iterdir())
    (home / "current").symlink_to(environment)
    done = invoke("mirrors", "use", mirror.index_url)
    assert done.exit_code == 0, done.output
    assert mirror.index_url in (environment / "pip.conf").read_text(encoding="utf-8")
    assert mirror.index_url in (environment / "uv.toml").read_text(encoding="utf-8")
    assert files["pip"].read_text(encoding="utf-8") == PIP_CONF
    invoke("undo")
    assert sorted(path.name for path in environment.iterdir()) == before


def test_without_an_environment_the_hint_says_what_to_do_before_anything_is_measured(
    mirror: LoopbackMirror, invoke: Invoke
) -> None:
    done = invoke("mirrors", "use", mirror.index_url)
    assert done.exit_code == 1
    assert "nothing is installed yet" in done.output
    assert mirror.requests == []


def test_a_file_that_cannot_be_written_keeps_all_as_they_were(
    files: dict[str, Path], mirror: LoopbackMirror, invoke: Invoke
) -> None:
    files["uv"].chmod(0o444)
    done = invoke("mirrors", "use", mirror.index_url, "--scope", "user")
    assert done.exit_code == 1
    assert f"{files['uv']} is read-only" in done.output
    assert files["pip"].read_text(encoding="utf-8") == PIP_CONF
    files["uv"].chmod(0o644)
    files["uv"].write_bytes(b"# caf\xe9\n")
    done = invoke("mirrors", "use", mirror.index_url, "--scope", "user")
    assert done.exit_code == 1
    assert "not UTF-8" in done.output
    assert files["pip"].read_text(encoding="utf-8") == PIP_CONF


def test_pip_itself_names_the_file_that_we_take_for_the_users(tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "XDG_"))}
    for extra in ({"HOME": str(tmp_path)}, {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "xdg")}):
        for existing in (None, ".pip/pip.conf", "xdg/pip/pip.conf", ".config/pip/pip.conf"):
            if existing:
                (tmp_path / existing).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / existing).write_text("", encoding="utf-8")
            path = config_files.of_user({**environ, **extra})["pip.conf"]
            shown = subprocess.run(
                [sys.executable, "-m", "pip", "config", "debug"],
                env={**environ, **extra}, capture_output=True, text=True, check=True,
            ).stdout  # fmt: skip
            users = shown.partition("user:")[2]
            assert str(path) in users
            for later in users.splitlines()[users.splitlines().index(f"  {path}, exists: {path.exists()}") + 1 :]:
                assert "exists: True" not in later


@pytest.mark.parametrize(
    ("environ", "platform", "pip", "uv_toml", "condarc"),
    [
        ({}, "linux", ".config/pip/pip.conf", ".config/uv/uv.toml", ".condarc"),
        ({"XDG_CONFIG_HOME": "/x"}, "linux", "/x/pip/pip.conf", "/x/uv/uv.toml", ".condarc"),
        ({"PIP_CONFIG_FILE": "/p", "UV_CONFIG_FILE": "/u", "CONDARC": "/c"}, "linux", "/p", "/u", "/c"),
        ({"XDG_CONFIG_HOME": "/x"}, "darwin", ".config/pip/pip.conf", "/x/uv/uv.toml", ".condarc"),
    ],
)
def test_the_users_files_are_those_that_win(
    environ: dict[str, str], platform: str, pip: str, uv_toml: str, condarc: str, tmp_path: Path
) -> None:
    found = config_files.of_user({"HOME": str(tmp_path), **environ}, platform)
    assert [found[name] for name in ("pip.conf", "uv.toml", ".condarc")] == [
        tmp_path / path for path in (pip, uv_toml, condarc)
    ]


def test_on_a_mac_pips_own_directory_wins_where_it_is_there(tmp_path: Path) -> None:
    own = tmp_path / "Library" / "Application Support" / "pip"
    own.mkdir(parents=True)
    assert config_files.of_user({"HOME": str(tmp_path)}, "darwin")["pip.conf"] == own / "pip.conf"


def test_a_pip_that_is_told_to_read_no_file_is_said_so() -> None:
    with pytest.raises(UsageProblem, match="reads no file"):
        config_files.of_user({"PIP_CONFIG_FILE": os.devnull})
