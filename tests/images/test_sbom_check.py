"""Images made by hand, each with one thing that is otherwise than its list says."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from images import sbom
from images.layers import weight_labels, weight_layers
from images.oci import Image, compose, digest_of
from images.spec import LOCK_DIGEST_LABEL, LOCK_LABEL, SBOM_DIGEST_LABEL, SBOM_PATH, WEIGHTS_LABEL, ImageSpec
from images.verify import verify
from runtime import __version__
from runtime.models import ModelSpec
from tests.images.registries import tar_layer

_SITE = "opt/venv/lib/python3.11/site-packages"
_LOCK_PATH = "app/runtime/locks/cpu.txt"
_LOCK = f"demo-one==1.0 --hash=sha256:{'a' * 64}\nother==2+cpu --hash=sha256:{'b' * 64} --hash=sha256:{'c' * 64}\n"
_BASE = f"sha256:{'d' * 64}"
_FILE = f"/{SBOM_PATH}"

Change = Callable[[dict[str, Any]], None]


class Made:
    """An image that is what its list says; and what it is made of, to be changed."""

    def __init__(self, spec: ImageSpec, directory: Path) -> None:
        lock = directory / "cpu.txt"
        lock.write_text(_LOCK.replace(f" --hash=sha256:{'c' * 64}", ""))
        self.document = json.loads(sbom.of_image(spec, lock, _BASE).content)
        lock.write_text(_LOCK)
        self.files = {
            f"{_SITE}/demo_one-1.0.dist-info/METADATA": b"Name: demo-one",
            f"{_SITE}/demo_one-1.0.dist-info/RECORD": b"",
            f"{_SITE}/demo_one/__init__.py": b"",
            f"{_SITE}/other-2+cpu.dist-info/METADATA": b"Name: other",
            _LOCK_PATH: _LOCK.encode(),
        }
        self.weights = weight_layers(spec.model, spec.model_dir, directory / "known.json")
        self.labels = {
            "org.opencontainers.image.version": __version__,
            "org.opencontainers.image.base.name": spec.base_image,
            "org.opencontainers.image.base.digest": _BASE,
            **weight_labels(spec.model, self.weights),
            WEIGHTS_LABEL: "baked",
            LOCK_LABEL: "cpu",
            LOCK_DIGEST_LABEL: digest_of(_LOCK.encode()),
        }
        for row in self.document["metadata"]["properties"]:
            if row["name"] == LOCK_DIGEST_LABEL:
                row["value"] = digest_of(_LOCK.encode())

    def image(self, *above: Mapping[str, bytes], content: bytes | None = None, **labels: str) -> Image:
        """The image as it is now, the label of its list always the right one unless it is given."""
        listed = json.dumps(self.document).encode() if content is None else content
        layers = [*self.weights, tar_layer({**self.files, SBOM_PATH: listed}), *map(tar_layer, map(dict, above))]
        said = {**self.labels, SBOM_DIGEST_LABEL: digest_of(listed), **labels}
        return compose({"architecture": "amd64", "os": "linux", "config": {"Labels": said}}, layers)

    def part(self, name: str) -> dict[str, Any]:
        return dict(next(row for row in self.document["components"] if row["name"] == name))

    def change(self, component: str, /, **changed: object) -> None:
        """Have the list say something else of a component."""
        self.document["components"] = [
            row | changed if row["name"] == component else row for row in self.document["components"]
        ]


@pytest.fixture
def made(small_model: ModelSpec, tmp_path: Path) -> Made:
    assert small_model.bundled
    wheels = {name: Path("none") for name in ("demo_one-1.0-py3-none-any.whl", "other-2+cpu-py3-none-any.whl")}
    spec = ImageSpec("i2v:1", "some/base:1", "cpu", small_model, small_model.bundled, wheels)
    return Made(spec, tmp_path)


def _wrong(image: Image) -> dict[str, tuple[str, str]]:
    """What does not hold of the list, what is claimed, and what was found."""
    rows = verify(image, None, lambda _size: None).rows
    return {row.what: (row.claimed, row.found) for row in rows if not row.holds}


def test_an_image_that_is_what_its_list_says_holds(made: Made) -> None:
    verified = verify(made.image(), None, lambda _size: None)
    assert verified.ok
    told = {row.what: (row.claimed, row.found) for row in verified.rows}
    assert told["packages in the SBOM"] == ("2 listed", "the same")
    assert told["wheels in the SBOM"] == ("2, each as the lock has it", "the same")
    assert told["model files in the SBOM"] == ("2 listed", "the same")
    assert told["labels in the SBOM"] == ("8 listed", "the same")


def test_any_change_of_the_list_is_told_by_its_label(made: Made) -> None:
    right = made.image()
    made.change("demo-one", description="another")
    changed = json.dumps(made.document).encode()
    label = json.loads(right.config.content)["config"]["Labels"][SBOM_DIGEST_LABEL]
    assert _wrong(made.image(**{SBOM_DIGEST_LABEL: label})) == {_FILE: (label, digest_of(changed))}
    assert set(_wrong(made.image({SBOM_PATH: changed}, content=b"{}", **{SBOM_DIGEST_LABEL: label}))) == {_FILE}


@pytest.mark.parametrize(
    ("path", "what", "found"),
    [
        ("more-1.dist-info/METADATA", "more", ("not listed", "1")),
        ("More.Pkg-1.0.0.dist-info/METADATA", "more-pkg", ("not listed", "1.0.0")),
        ("old-1.0-py3.11.egg-info", "old", ("not listed", "1.0")),
        ("older.egg-info/PKG-INFO", "older", ("not listed", "")),
        ("demo_one-0.9.dist-info/METADATA", "demo-one", ("1.0", "0.9, 1.0")),
        (".wh.demo_one-1.0.dist-info", "demo-one", ("1.0", "missing")),
    ],
)
def test_a_package_more_or_less_in_a_higher_layer_is_told(
    path: str, what: str, found: tuple[str, str], made: Made
) -> None:
    assert _wrong(made.image({f"{_SITE}/{path}": b""})) == {f"packages in the SBOM: {what}": found}


def test_packages_that_are_hidden_are_missing(made: Made) -> None:
    everything = {"packages in the SBOM: demo-one", "packages in the SBOM: other"}
    for path in (f"{_SITE}/.wh..wh..opq", f"{_SITE}", "opt/.wh.venv", "opt/venv/lib/python3.11"):
        assert set(_wrong(made.image({path: b""}))) == everything
    assert set(_wrong(made.image({f"{_SITE.replace('3.11', '3.12')}/demo_one-2.dist-info/METADATA": b""}))) == {
        "packages in the SBOM: demo-one"
    }


def test_files_of_no_package_are_not_taken_for_one(made: Made) -> None:
    others = (f"{_SITE}/single.py", f"{_SITE}/demo_one/x.dist-info/METADATA", "usr/lib/site-packages/x-1.dist-info/A")
    assert _wrong(made.image(*({path: b""} for path in others))) == {}


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"version": "1.1"}, {"packages in the SBOM: demo-one", "wheels in the SBOM"}),
        (
            {"name": "demo-two"},
            {"packages in the SBOM: demo-one", "packages in the SBOM: demo-two", "wheels in the SBOM"},
        ),
        ({"hashes": [{"alg": "SHA-256", "content": "e" * 64}]}, {"wheels in the SBOM"}),
        ({"hashes": []}, {"the SBOM"}),
    ],
)
def test_what_the_list_says_of_a_package_is_held_against_image_and_lock(
    change: dict[str, object], wrong: set[str], made: Made
) -> None:
    made.change("demo-one", **change)
    assert set(_wrong(made.image())) == wrong


def test_what_the_list_says_of_the_labels_has_to_be_so(made: Made) -> None:
    made.change("some/base:1", version=f"sha256:{'e' * 64}")
    made.change("i2v-setup", version="9.9")
    for row in made.document["metadata"]["properties"]:
        row["value"] = row["value"].replace("baked", "mounted")
    named = {"org.opencontainers.image.version", "org.opencontainers.image.base.digest", WEIGHTS_LABEL}
    assert set(_wrong(made.image())) == {f"labels in the SBOM: {name}" for name in named}
    assert _wrong(made.image())["labels in the SBOM: i2v-setup.weights"] == ("mounted", "baked")


def test_what_the_list_says_of_the_model_has_to_be_so(made: Made) -> None:
    files = made.part("small")["components"]
    made.change("small", components=[row | {"name": f"{row['name']}.old"} for row in files[:1]] + files[1:])
    path = files[0]["name"]
    assert set(_wrong(made.image())) == {f"model files in the SBOM: {name}" for name in (path, f"{path}.old")}


def test_a_lock_that_is_missing_or_makes_no_sense_allows_nothing(made: Made) -> None:
    made.files[_LOCK_PATH] = b"demo-one"
    assert "line 1" in _wrong(made.image())["wheels in the SBOM"][1]
    del made.files[_LOCK_PATH]
    assert _wrong(made.image())["wheels in the SBOM"][1] == "otherwise: demo-one, other"


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b'{"bomFormat": "SPDX"}', b'{"bomFormat": "CycloneDX"}'])
def test_a_list_that_makes_no_sense_is_told(content: bytes, made: Made) -> None:
    assert set(_wrong(made.image(content=content))) == {"the SBOM"}


def test_a_list_that_is_gone_or_that_no_label_names_is_told(made: Made) -> None:
    gone = made.image({f"{Path(SBOM_PATH).parent}/.wh.{Path(SBOM_PATH).name}": b""})
    assert [found for _, found in _wrong(gone).values()] == ["missing"]
    unnamed = json.loads(made.image().config.content)
    del unnamed["config"]["Labels"][SBOM_DIGEST_LABEL]
    assert set(_wrong(compose(unnamed, made.image().layers))) == {_FILE}


def test_an_image_without_a_list_is_verified_as_far_as_it_claims_something(made: Made) -> None:
    image = made.image()
    config = json.loads(image.config.content)
    del config["config"]["Labels"][SBOM_DIGEST_LABEL]
    without = compose(config, [*made.weights, tar_layer(made.files)])
    verified = verify(without, None, lambda _size: None)
    assert verified.ok
    assert not [row for row in verified.rows if "SBOM" in row.what]
