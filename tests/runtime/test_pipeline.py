"""The engine in this very process: what it makes, what it refuses to call a video, and how it stops."""

import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from runtime.footprint import Knobs
from runtime.models import model
from runtime.options import build_request
from runtime.quiet import hush
from runtime.uploads import open_picture
from tests.runtime.conftest import PHOTO, ROOT, Frames, demo_directory

pytestmark = pytest.mark.filterwarnings(
    "ignore"
)  # torch and diffusers warn of themselves; in production they are hushed

REQUEST = build_request(
    "preview", model=model("demo"), size="128x64", num_frames=3, num_inference_steps=3, seed=5, prompt="a boat"
)


@pytest.fixture(scope="module")
def pipeline() -> Any:
    with warnings.catch_warnings():
        hush()  # before torch is imported: threads that wait give up their core
        from runtime import pipeline
    return pipeline


@pytest.fixture(scope="module")
def engine(pipeline: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pipeline.Engine.load(model("demo"), demo_directory())


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return open_picture(PHOTO)


@pytest.fixture(scope="module")
def video(engine: Any, photo: Image.Image) -> Frames:
    frames: Frames = engine.generate(photo, REQUEST, lambda *_: None).frames
    return frames


def test_the_frames_have_the_shape_that_was_asked_for(video: Frames) -> None:
    assert video.shape == (3, 64, 128, 3)
    assert video.dtype == np.uint8


def test_the_same_seed_gives_the_same_frames_and_another_gives_others(
    engine: Any, photo: Image.Image, video: Frames
) -> None:
    assert np.array_equal(video, engine.generate(photo, REQUEST, lambda *_: None).frames)
    assert not np.array_equal(video, engine.generate(photo, replace(REQUEST, seed=6), lambda *_: None).frames)


@pytest.mark.parametrize(
    "change", [{"prompt": "a train"}, {"negative_prompt": ""}, {"guidance_scale": 2.0}, {"fps": 24}]
)
def test_each_setting_reaches_the_model(engine: Any, photo: Image.Image, video: Frames, change: dict[str, Any]) -> None:
    assert not np.array_equal(video, engine.generate(photo, replace(REQUEST, **change), lambda *_: None).frames)


def test_the_picture_reaches_the_model(engine: Any, video: Frames) -> None:
    other = Image.linear_gradient("L").convert("RGB")
    assert not np.array_equal(video, engine.generate(other, REQUEST, lambda *_: None).frames)


@pytest.mark.parametrize("size", [(30, 300), (1000, 40), (16, 16)])
def test_pictures_of_any_shape_are_taken(engine: Any, size: tuple[int, int]) -> None:
    picture = Image.linear_gradient("L").convert("RGB").resize(size)
    assert engine.generate(picture, REQUEST, lambda *_: None).frames.shape == (3, 64, 128, 3)


def test_each_step_is_told(engine: Any, photo: Image.Image) -> None:
    steps = []
    made = engine.generate(photo, REQUEST, lambda *step: steps.append(step))
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert made.denoise_seconds > 0
    assert made.decode_seconds > 0


def test_a_cancel_acts_at_the_next_step_and_leaves_the_engine_as_it_was(
    engine: Any, pipeline: Any, photo: Image.Image, video: Frames
) -> None:
    steps = []

    def stop_at_the_second(step: int, _steps: int) -> None:
        steps.append(step)
        if step == 2:
            raise pipeline.Cancelled

    with pytest.raises(pipeline.Cancelled):
        engine.generate(photo, REQUEST, stop_at_the_second)
    assert steps == [1, 2]
    assert np.array_equal(video, engine.generate(photo, REQUEST, lambda *_: None).frames)


@pytest.mark.parametrize(("value", "message"), [(float("nan"), "not numbers"), (0.0, "one flat colour")])
def test_frames_that_show_nothing_are_a_failure(
    pipeline: Any, photo: Image.Image, tmp_path: Path, value: float, message: str
) -> None:
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "model"
    shutil.copytree(demo_directory(), broken)
    weights = broken / "vae" / "diffusion_pytorch_model.fp16.safetensors"
    tensors = load_file(weights)
    tensors["decoder.conv_out.weight"].fill_(value)
    save_file(tensors, weights, {"format": "pt"})
    made = pipeline.Engine.load(model("demo"), broken).generate(photo, REQUEST, lambda *_: None)
    with pytest.raises(pipeline.EngineProblem, match=message):
        _ = made.frames


def test_weights_that_are_not_safetensors_are_never_loaded(pipeline: Any, tmp_path: Path) -> None:
    copy = tmp_path / "model"
    shutil.copytree(demo_directory(), copy)
    weights = copy / "unet" / "diffusion_pytorch_model.fp16.safetensors"
    weights.rename(weights.with_name("diffusion_pytorch_model.fp16.bin"))
    with pytest.raises(pipeline.loading.LoadProblem, match="cannot load"):
        pipeline.Engine.load(replace(model("demo"), manifest=None), copy)


def test_damaged_weights_are_said_in_one_line(pipeline: Any, tmp_path: Path) -> None:
    copy = tmp_path / "model"
    shutil.copytree(demo_directory(), copy)
    weights = copy / "unet" / "diffusion_pytorch_model.fp16.safetensors"
    weights.write_bytes(b"\xff" * weights.stat().st_size)
    with pytest.raises(pipeline.loading.LoadProblem, match="cannot load the model demo") as raised:
        pipeline.Engine.load(model("demo"), copy)
    assert "\n" not in str(raised.value)


def test_on_a_cpu_fp16_weights_are_computed_in_fp32_and_on_a_gpu_in_their_own_precision(pipeline: Any) -> None:
    import torch

    spec, decide = model("demo"), pipeline.loading.compute_precision
    assert decide(spec, torch.device("cpu")) == "fp32"
    assert decide(spec, torch.device("cuda")) == "fp16"
    assert decide(replace(spec, precision="bf16"), torch.device("cuda")) == "bf16"


@pytest.mark.parametrize("precision", ["fp16", "bf16", "autocast"])
def test_other_precisions_make_nearly_the_same_video(
    pipeline: Any, photo: Image.Image, video: Frames, precision: str
) -> None:
    engine = pipeline.Engine.load(model("demo"), demo_directory(), precision)
    made = engine.generate(photo, REQUEST, lambda *_: None).frames
    difference = np.abs(made.astype(int) - video.astype(int))
    assert difference.max() > 0
    assert difference.mean() < 4  # of 255


def test_the_knobs_that_save_memory_leave_the_video_as_it_is(engine: Any, photo: Image.Image, video: Frames) -> None:
    for knobs in (Knobs(1), Knobs(3, forward_chunking=True)):
        made = engine.generate(photo, REQUEST, lambda *_: None, knobs).frames
        assert np.abs(made.astype(int) - video.astype(int)).max() <= 1
    assert np.array_equal(video, engine.generate(photo, REQUEST, lambda *_: None).frames)


def test_the_most_memory_of_a_call_is_measured_whatever_was_made_before() -> None:
    """In a process of its own: what others have let go of there would be taken instead of new memory."""
    code = f"""
import warnings; warnings.simplefilter("ignore")
from PIL import Image
from runtime.models import model
from runtime.options import build_request
from runtime.pipeline import Engine
engine = Engine.load(model("demo"), model("demo").bundled)
for size in ("64x64", "512x512", "512x512"):
    request = build_request("preview", model=model("demo"), size=size, num_inference_steps=1)
    print(engine.generate(Image.open({str(PHOTO)!r}), request, lambda *_: None).peak_bytes)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    small, large, again = map(int, run.stdout.split())
    assert 0 <= small < large
    assert min(large, again) > 8 * 512 * 512 * 3 * 4  # the frames alone, as floats


def test_several_videos_of_one_call_are_those_that_are_made_alone(engine: Any, photo: Image.Image) -> None:
    pictures = [photo, photo.rotate(90), Image.linear_gradient("L").convert("RGB")]
    requests = [replace(REQUEST, seed=seed, prompt=prompt) for seed, prompt in ((1, "a boat"), (2, "a train"), (3, ""))]
    together = engine.generate_together(pictures, requests, lambda *_: None).videos
    for picture, request, made in zip(pictures, requests, together, strict=True):
        alone = engine.generate(picture, request, lambda *_: None).frames
        assert np.abs(made.astype(int) - alone.astype(int)).max() <= 1


@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling for a CPU needs g++")
def test_compiled_blocks_make_the_same_video_and_their_code_is_kept(
    pipeline: Any, photo: Image.Image, video: Frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch import compiler

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    compiled = pipeline.Engine.load(model("demo"), demo_directory(), compiled=True)
    made = compiled.generate(photo, REQUEST, lambda *_: None).frames
    compiler.reset()  # for the tests that come after this one
    assert list(tmp_path.rglob("*.so"))
    assert np.abs(made.astype(int) - video.astype(int)).max() <= 1  # sums are taken in another order
