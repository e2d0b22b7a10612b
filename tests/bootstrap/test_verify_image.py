"""`build-image --verify`, as it is called; what it looks at is images.verify's."""

import json
from pathlib import Path

import pytest

from images import layout
from images.layers import weight_layers, weights_image
from images.oci import Image, compose
from images.spec import MODEL_DIGEST_LABEL
from runtime.models import model
from tests.conftest import Invoke


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """The demo model's weights alone."""
    demo = model("demo")
    assert demo.bundled
    return weights_image(demo, weight_layers(demo, demo.bundled, tmp_path / "known.json"))


def test_an_image_that_holds_is_said_to(image: Image, invoke: Invoke, tmp_path: Path) -> None:
    path = str(tmp_path / "weights.tar")
    layout.write(image, Path(path))
    done = invoke("build-image", "--verify", path)
    assert done.exit_code == 0
    assert "the model demo in our catalogue" in done.stdout
    assert f"{path} is what it claims" in done.stderr
    found = json.loads(invoke("build-image", "--verify", path, "--json").stdout)
    assert found["ok"]
    assert all(row["holds"] for row in found["rows"])


def test_an_image_that_does_not_hold_is_one_error(image: Image, invoke: Invoke, tmp_path: Path) -> None:
    config = json.loads(image.config.content)
    config["config"]["Labels"][MODEL_DIGEST_LABEL] = "sha256:other"
    path = str(tmp_path / "layout")
    layout.write(compose(config, image.layers), Path(path))
    done = invoke("build-image", "--verify", path)
    assert done.exit_code == 1
    [error] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert f"not what it claims: {MODEL_DIGEST_LABEL} is sha256:{model('demo').digest}, and not sha256:other" in error
    assert "hint: do not use it" in done.stderr
    told = invoke("build-image", "--verify", path, "--json")
    assert told.exit_code == 1
    rows = json.loads(told.stdout)["rows"]
    assert [row["what"] for row in rows if not row["holds"]] == [MODEL_DIGEST_LABEL]


def test_verifying_does_not_go_with_building(invoke: Invoke) -> None:
    done = invoke("build-image", "--verify", "some:1", "--push", "other:1", "--weights", "baked", "--dry-run")
    assert done.exit_code == 2
    assert "--weights, --push, --dry-run" in done.output
