"""`build-image` where nothing is built: no engine, no docker command, no index, and no wheels."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from images import layout
from images.oci import Image
from images.push import push
from images.references import parse
from images.spec import MODEL_DIGEST_LABEL, MODEL_LABEL, VERSION_LABEL, WEIGHTS_LABEL
from images.verify import labels_of
from runtime.models import model
from tests.conftest import COMMAND, ROOT, Invoke
from tests.images.registries import ScriptedRegistry, real_registry
from tests.images.slims import slim_image
from tests.images.stuck import Stuck

_HERE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
_NOWHERE = "http://127.0.0.1:9"

Bare = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def without() -> Image:
    return slim_image(model("demo"), architecture=_HERE)


@pytest.fixture
def slim_tar(without: Image, tmp_path: Path) -> str:
    layout.write(without, tmp_path / "slim.tar")
    return str(tmp_path / "slim.tar")


@pytest.fixture
def real(no_logins: Path, tmp_path: Path, free_port: int) -> Iterator[str]:
    with real_registry(tmp_path, free_port) as host:
        yield host


@pytest.fixture
def environment(home: Path, no_logins: Path, tmp_path: Path) -> dict[str, str]:
    """Of a machine with neither an engine, nor any command, nor a network."""
    empty = tmp_path / "empty"
    empty.mkdir()
    none = {"PATH": str(empty), "DOCKER_HOST": f"unix://{tmp_path}/none.sock", "PIP_INDEX_URL": f"{_NOWHERE}/simple"}
    return {**os.environ, **none, "HTTPS_PROXY": _NOWHERE, "HTTP_PROXY": _NOWHERE, "I2V_SETUP_HOME": str(home)}


@pytest.fixture
def bare(environment: dict[str, str]) -> Bare:
    """Runs build-image there; it has to succeed, unless told otherwise."""

    def run(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        command = [*COMMAND, "build-image", *arguments]
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


def _section(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What was recorded of the command."""
    return dict(json.loads(done.stdout)["sections"][-1])


def _phases(section: dict[str, Any]) -> set[str]:
    """The phases, but for what the fetch of the weights was made of."""
    return {timing["phase"] for timing in section["timings"] if not timing["phase"].startswith("weights.")}


def test_weights_are_put_into_a_published_image(bare: Bare, real: str, without: Image) -> None:
    push(without, parse(f"{real}/team/slim:1"), lambda _: None)
    arguments = ("--on", f"{real}/team/slim:1", "--push", f"{real}/team/demo:1")
    steps = json.loads(bare(*arguments, "--dry-run", "--json").stdout)
    assert [step["title"] for step in steps] == ["model", "built already", "push"]
    assert without.manifest.descriptor.digest in steps[1]["detail"]
    assert "lock cpu; 3 layers, 1 MB" in steps[1]["detail"]
    section = _section(bare(*arguments, "--json"))
    assert section["facts"]["reused"] == "3 of 4 layers, 1 MB, 3 of them mounted from another repository"
    assert section["facts"]["on"] == f"{real}/team/slim:1"
    assert _phases(section) == {"start", "look", "weights", "build", "build.weights", "build.push"}
    verified = json.loads(bare("--verify", f"{real}/team/demo:1", "--json").stdout)
    assert verified["ok"]
    assert {"i2v-setup.weights.layers", "/app/runtime/locks/cpu.txt"} < {row["what"] for row in verified["rows"]}
    again = _section(bare(*arguments, "--json"))
    assert again["facts"]["id"] == section["facts"]["id"]
    assert again["facts"]["reused"].startswith("4 of 4 layers")


@pytest.mark.parametrize("name", ["result", "result.tar"])
def test_weights_are_put_into_an_image_on_disk(bare: Bare, slim_tar: str, tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    bare("--on", slim_tar, "--weights-on-top", "-o", str(target), "--tag", "i2v-there:1")
    image = layout.read(target, "i2v-there:1", _HERE)
    assert labels_of(image)[WEIGHTS_LABEL] == "baked"
    assert "weights" in image.layers[-1].made_by
    bare("--verify", str(target))


def test_an_image_on_disk_is_pushed(bare: Bare, slim_tar: str, real: str, tmp_path: Path) -> None:
    bare("--on", slim_tar, "--push", f"{real}/team/demo:1", "-o", str(tmp_path / "result.tar"))
    bare("--verify", f"{real}/team/demo:1")
    bare("--verify", str(tmp_path / "result.tar"))


def test_a_push_that_was_killed_is_completed_by_the_next(
    environment: dict[str, str], bare: Bare, tmp_path: Path, scripted: ScriptedRegistry
) -> None:
    without = slim_image(model("demo"), megabytes=40, architecture=_HERE)
    layout.write(without, tmp_path / "slim.tar")
    arguments = ("--on", str(tmp_path / "slim.tar"), "--push", f"{scripted.host}/some/image:1")
    stuck = Stuck(scripted, 1 << 20, larger_than=40 << 20)
    command = [*COMMAND, "build-image", *arguments]
    with subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        stuck.wait(4)  # two layers, the weights, and the configuration
        process.kill()
    stuck.go_on.set()
    assert scripted.manifests == {}
    scripted.before = lambda _: False
    scripted.requests.clear()
    section = _section(bare(*arguments, "--json"))
    assert section["facts"]["reused"].startswith("3 of 4 layers")
    assert len(scripted.asked("PUT", "/uploads/")) == 1
    bare("--verify", f"{scripted.host}/some/image:1")


def test_weights_alone_ask_for_no_engine_and_no_index(bare: Bare, real: str, home: Path) -> None:
    section = _section(bare("--weights", "volume", "--push", f"{real}/team/weights:1", "--json"))
    assert _phases(section) == {"start", "weights", "build", "build.weights", "build.push"}
    assert "torch" not in section["facts"]
    bare("--verify", f"{real}/team/weights:1")
    assert not (home / "cache" / "wheels.json").exists()


def test_without_an_engine_the_local_one_is_missed_before_anything_is_fetched(
    bare: Bare, slim_tar: str, home: Path
) -> None:
    for arguments in (("--on", slim_tar), ("--weights", "volume")):
        done = bare(*arguments, code=1)
        assert "no Docker engine answers" in done.stderr
    assert not (home / "cache" / "models").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--weights", "mounted"), "--weights mounted does not"),
        (("--weights", "volume"), "--weights volume does not"),
        (("--torch", "cpu", "--mirror", "upstream"), "does not go with --torch, --mirror"),
        (("--base-image", "other:1"), "does not go with --base-image"),
        (("-o", "{slim}"), "would be replaced by what is made of it"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_does_not_go_together_is_refused(
    invoke: Invoke, slim_tar: str, arguments: tuple[str, ...], told: str
) -> None:
    done = invoke("build-image", "--dry-run", "--on", slim_tar, *(part.format(slim=slim_tar) for part in arguments))
    assert done.exit_code == 2
    assert told in done.stderr


def test_an_image_is_not_pushed_over_the_one_that_it_is_made_of(
    invoke: Invoke, scripted: ScriptedRegistry, without: Image
) -> None:
    scripted.holds(without)
    name = f"{scripted.host}/some/image:1"
    done = invoke("build-image", "--on", name, "--push", name)
    assert done.exit_code == 2
    assert "would be replaced" in done.stderr
    assert scripted.asked("PUT") == scripted.asked("POST") == []


def test_another_version_is_warned_of(invoke: Invoke, tmp_path: Path) -> None:
    labels = {VERSION_LABEL: "0.0.1", MODEL_LABEL: "svd", MODEL_DIGEST_LABEL: f"sha256:{'a' * 64}"}
    layout.write(slim_image(model("demo"), architecture=_HERE, labels=labels), tmp_path / "slim")
    done = invoke("build-image", "--dry-run", "--on", str(tmp_path / "slim"), "-o", str(tmp_path / "out"))
    assert done.exit_code == 0
    assert "has the runtime 0.0.1 and was made for svd" in " ".join(done.stderr.split())
