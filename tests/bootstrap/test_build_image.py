"""What build-image is asked for, and what it says before it does anything."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from bootstrap.deploying import DeployFiles
from bootstrap.state import Home
from images.spec import Destination, ImageSpec
from runtime.models import model
from tests.conftest import Invoke
from tests.images.registries import ScriptedRegistry, refuse_referrers


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--weights", "mounted", "--weights-on-top"), "--weights-on-top goes with baked weights"),
        (("--push", "Not A/Reference"), "Not A/Reference"),
        (("--weights", "frozen"), "baked"),
        (("--pull-rate", "0"), "--pull-rate"),
        (("--model", "nosuch"), "nosuch"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_is_refused_before_anything_is_done(
    invoke: Invoke, arguments: tuple[str, ...], told: str
) -> None:
    result = invoke("build-image", "--dry-run", *arguments)
    assert result.exit_code != 0
    assert told in result.stderr
    assert "Traceback" not in result.stderr


def test_the_plan_of_weights_alone_has_no_packages(invoke: Invoke) -> None:
    result = invoke("build-image", "--dry-run", "--torch", "cpu", "--weights", "volume", "--push", "some.registry/w:1")
    assert result.exit_code == 0, result.stderr
    assert "alone in their image" in result.output
    assert "some.registry/w:1" in result.output
    assert "wheels" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--weights", "volume", "--deploy-files", "deploy"), "an image of the weights alone serves nothing"),
        (("--weights-image", "some.registry/w:1"), "--weights-image goes with --weights mounted"),
        (("--weights", "mounted", "--weights-image", "some.registry/w:1"), "--weights-image goes with"),
        (("--weights", "mounted", "--deploy-files", "deploy", "--weights-image", "Not A/Name"), "Not A/Name"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_deploy_files_that_make_no_sense_are_refused_first(
    invoke: Invoke, arguments: tuple[str, ...], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke("build-image", *arguments)
    assert result.exit_code != 0
    assert told in result.stderr
    assert not (tmp_path / "deploy").exists()


def test_a_changed_deploy_file_is_told_before_anything_is_built(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services: {}\n")
    result = invoke("build-image", "--deploy-files", str(tmp_path))
    assert result.exit_code == 1
    assert "compose.yaml was changed, or is somebody else's" in result.stderr
    assert (tmp_path / "compose.yaml").read_text() == "services: {}\n"


def test_a_dry_run_writes_the_deploy_files_alone(invoke: Invoke, home: Path, tmp_path: Path) -> None:
    directory = tmp_path / "deploy"
    arguments = ("--torch", "cu130", "--weights", "mounted", "--deploy-files", str(directory))
    result = invoke("build-image", "--dry-run", *arguments)
    assert result.exit_code == 0, result.stderr
    assert f"{directory}: compose.yaml, kubernetes.yaml" in " ".join(result.stdout.split())
    server = yaml.safe_load((directory / "compose.yaml").read_text())["services"]["server"]
    assert server["image"] == "i2v-demo:latest"
    assert "deploy" in server
    assert server["volumes"][1]["source"].startswith(str(home))


@pytest.mark.parametrize(
    ("push", "digest", "image"),
    [
        (None, "sha256:1", "mine:1"),
        ("some.registry/i2v:1", "sha256:1", "some.registry/i2v:1@sha256:1"),
        ("some.registry/i2v:1", "", "some.registry/i2v:1"),
    ],
)
def test_a_pushed_image_is_named_by_its_digest(push: str | None, digest: str, image: str, tmp_path: Path) -> None:
    spec = ImageSpec("mine:1", "base", "cpu", model("demo"), tmp_path, {})
    home = Home(tmp_path, tmp_path, tmp_path, tmp_path)
    compose, kubernetes = DeployFiles(tmp_path / "deploy").write(spec, Destination(push), home, digest)
    assert yaml.safe_load(compose.read_text())["services"]["server"]["image"] == image
    assert f'image: "{image}"' in kubernetes.read_text()


def test_what_did_not_work_out_though_the_image_is_there_is_told(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with ScriptedRegistry() as registry:
        registry.before = refuse_referrers
        name = str(registry.reference())
        result = invoke("build-image", "--torch", "cpu", "--weights", "volume", "--push", name)
    assert result.exit_code == 0, result.stderr
    assert "warning: the image is there" in result.stderr
    assert "no such manifests here" in " ".join(result.stderr.split())
    assert "1" in registry.manifests
