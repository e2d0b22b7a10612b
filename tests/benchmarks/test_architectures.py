"""The architectures that benchmarks run with random weights are the published ones."""

import importlib.util
import json
import struct
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

if importlib.util.find_spec("diffusers") is None:
    pytest.skip("needs the runtime's dependencies", allow_module_level=True)

from runtime.families import FAMILIES
from runtime.footprint import Residency
from runtime.models import MODELS, model
from runtime.options import smallest_request
from tests.conftest import PHOTO

pytestmark = pytest.mark.filterwarnings("ignore")  # torch and diffusers warn of themselves

#: Bytes of an element in the published files, where it is not two.
PUBLISHED_IN_FP32 = {
    ("animatediff", "motion_adapter"),
    ("wan2.2-ti2v-5b", "transformer"),
    ("wan2.2-ti2v-5b", "vae"),
    ("ltx-video", "transformer"),
    ("ltx-video", "vae"),
    ("ltx-video", "text_encoder"),
    ("cogvideox-5b-i2v", "vae"),
}


@pytest.fixture(scope="module")
def architectures() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from benchmarks import architectures
    return architectures


@pytest.fixture(scope="module")
def build(architectures: Any) -> Callable[..., Any]:
    made: Callable[..., Any] = architectures.build
    return made


def numbers_in(part: Any) -> int:
    """What a file of the part would hold, once each."""
    return sum({id(tensor): tensor.numel() for tensor in part.state_dict(keep_vars=True).values()}.values())


@pytest.mark.parametrize("model_id", [row for row in MODELS if row != "demo"])
def test_every_part_is_as_large_as_the_published_one(model_id: str, architectures: Any) -> None:
    parts = architectures.published(model_id)
    files = [file for file in model(model_id).files if file.path.endswith(".safetensors")]
    assert {file.path.partition("/")[0] for file in files} == set(parts)
    for name, part in parts.items():
        size = sum(file.about for file in files if file.path.startswith(f"{name}/"))
        width = 4 if (model_id, name) in PUBLISHED_IN_FP32 else 2
        assert width * numbers_in(part) == pytest.approx(size, rel=0.01), name


def test_the_demo_is_the_bundled_one(architectures: Any) -> None:
    directory = model("demo").bundled
    assert directory is not None
    for name, part in architectures.published("demo").items():
        (path,) = (directory / name).glob("*.safetensors")
        with path.open("rb") as file:
            header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        shapes = {key: tuple(value["shape"]) for key, value in header.items() if key != "__metadata__"}
        assert shapes == {key: tuple(tensor.shape) for key, tensor in part.state_dict().items()}


@pytest.mark.parametrize("model_id", MODELS)
def test_a_pipeline_is_what_the_family_loads_and_takes_no_memory_on_meta(
    model_id: str, build: Callable[..., Any]
) -> None:
    import torch

    spec = model(model_id)
    family = FAMILIES[spec.family]
    pipeline = build(model_id, torch.bfloat16, "meta")
    assert type(pipeline).__name__ == family.pipeline
    for name, part in pipeline.components.items():
        if isinstance(part, torch.nn.Module):
            tensors = [*part.parameters(), *part.buffers()]
            assert {tensor.device.type for tensor in tensors} == {"meta"}
            assert part.dtype == (torch.float32 if name in family.fp32_parts else torch.bfloat16)


@pytest.mark.parametrize(
    ("model_id", "width"), [("i2vgen-xl", 1024), ("animatediff", 768), ("wan2.2-ti2v-5b", 4096), ("ltx-video", 4096)]
)
def test_a_stand_in_for_the_text_encoder_is_small_and_hands_on_the_same_width(
    model_id: str, width: int, build: Callable[..., Any]
) -> None:
    import torch

    real, small = (
        build(model_id, torch.bfloat16, "meta", text_encoder=size).text_encoder for size in ("real", "small")
    )
    assert real.config.hidden_size == small.config.hidden_size == width
    assert numbers_in(small) < numbers_in(real) / 40


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_random_weights_make_a_video_and_the_same_seed_the_same_one(precision: Any, build: Callable[..., Any]) -> None:
    import torch

    from runtime.loading import DTYPES
    from runtime.pipeline import Engine
    from runtime.uploads import open_picture

    def made(seed: int) -> Any:
        pipeline = build("demo", DTYPES[precision], "cpu", seed=seed)
        engine = Engine(model("demo"), pipeline, torch.device("cpu"), precision, Residency())
        return engine.generate(open_picture(PHOTO), smallest_request(model("demo")), lambda *_: None).frames

    first = made(0)
    assert np.array_equal(first, made(0))
    assert not np.array_equal(first, made(1))
