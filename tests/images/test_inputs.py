import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from images.errors import ImageError
from images.inputs import (
    Recipe,
    installer_settings,
    needs_host_network,
    place_model,
    shipped_recipe,
)
from images.spec import Packages
from runtime.models import ModelSpec

_INDEX = "https://index.example/simple"


def test_only_the_files_of_the_manifest_are_handed_over(tmp_path: Path, small_model: ModelSpec) -> None:
    assert small_model.bundled
    place_model(small_model, small_model.bundled, tmp_path / "given")
    given = sorted(path.relative_to(tmp_path / "given").as_posix() for path in (tmp_path / "given").rglob("*.*"))
    assert given == ["config.json", "unet/weights.safetensors"]


def test_a_model_of_links_into_a_store_is_handed_over_as_files(tmp_path: Path, small_model: ModelSpec) -> None:
    assert small_model.bundled
    linked = tmp_path / "linked"
    for file in small_model.files:
        (linked / file.path).parent.mkdir(parents=True, exist_ok=True)
        (linked / file.path).symlink_to(small_model.bundled / file.path)
    place_model(small_model, linked, tmp_path / "given")
    assert not any((tmp_path / "given" / file.path).is_symlink() for file in small_model.files)


def test_a_missing_file_of_the_model_is_named(tmp_path: Path, small_model: ModelSpec) -> None:
    with pytest.raises(ImageError, match=r"missing: .*config\.json") as caught:
        place_model(small_model, tmp_path / "elsewhere", tmp_path / "given")
    assert "i2v-setup install --model small" in caught.value.hint


def test_a_damaged_file_of_the_model_is_named(tmp_path: Path, small_model: ModelSpec) -> None:
    assert small_model.bundled
    weights = small_model.bundled / "unet" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(ImageError, match=r"damaged: .*weights\.safetensors"):
        place_model(small_model, small_model.bundled, tmp_path / "given")


def test_settings_reach_the_installers_whole_through_a_shell(tmp_path: Path) -> None:
    odd = "https://u:p'a$HOME`id`\"@index.example/simple"
    settings = tmp_path / "installer"
    settings.write_text(
        installer_settings(
            Packages(
                odd,
                ("https://more.example",),
                ("https://flat.example/a b/",),
                proxies={"https": "http://proxy:1", "no": "a,b"},
            )
        )
    )
    shown = "import json, os; print(json.dumps(dict(os.environ)))"
    script = f"set -a; . {shlex.quote(str(settings))}; exec {shlex.quote(sys.executable)} -c {shlex.quote(shown)}"
    environment = json.loads(subprocess.run(["sh", "-euc", script], stdout=subprocess.PIPE, check=True).stdout)
    assert environment["PIP_INDEX_URL"] == environment["UV_DEFAULT_INDEX"] == odd
    assert environment["UV_INDEX"] == "https://more.example"
    assert environment["UV_FIND_LINKS"] == "https://flat.example/a b/"
    assert environment["HTTPS_PROXY"] == environment["https_proxy"] == "http://proxy:1"
    assert environment["NO_PROXY"] == "a,b"


@pytest.mark.parametrize(
    ("packages", "host"),
    [
        (Packages(_INDEX), False),
        (Packages("http://user:secret@127.0.0.1:8080/simple"), True),
        (Packages(_INDEX, ("http://[::1]/simple",)), True),
        (Packages(_INDEX, proxies={"https": "http://localhost:7890"}), True),
        (Packages(_INDEX, proxies={"https": "127.0.0.1:7890"}), True),
        (Packages(_INDEX, proxies={"https": "http://proxy.example:3128", "no": "127.0.0.1"}), False),
    ],
)
def test_what_listens_on_loopback_needs_the_host_network(packages: Packages, host: bool) -> None:
    assert needs_host_network(packages) is host


def test_credentials_stay_out_of_repr() -> None:
    packages = Packages("https://u:secret@a", ("https://u:secret@b",), proxies={"https": "http://u:secret@c"})
    assert "secret" not in repr(packages)


def test_an_unknown_torch_build_names_those_that_there_are() -> None:
    with pytest.raises(ImageError, match="cu1") as caught:
        shipped_recipe().lock("cu1")
    assert "cpu" in caught.value.hint


def test_a_path_is_no_torch_build(tmp_path: Path) -> None:
    (tmp_path / "runtime" / "locks").mkdir(parents=True)
    (tmp_path / "secret.txt").touch()
    with pytest.raises(ImageError):
        Recipe(tmp_path / "Dockerfile", tmp_path).lock("../../secret")


def test_originals_keep_their_modes(tmp_path: Path, small_model: ModelSpec) -> None:
    assert small_model.bundled
    private = small_model.bundled / "config.json"
    private.chmod(0o600)
    place_model(small_model, small_model.bundled, tmp_path / "given")
    assert private.stat().st_mode & 0o777 == 0o600
