"""Every family of models, small and with random weights, in the layout in which the real ones are published."""

import contextlib
import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

from runtime import approximations, shapes
from runtime.bounds import InvalidOption
from runtime.families import FAMILIES
from runtime.footprint import Knobs, Residency
from runtime.models import MODELS
from runtime.options import GenerationRequest, build_request, smallest_request
from runtime.quiet import hush
from runtime.uploads import open_picture
from tests.runtime.conftest import PHOTO

pytestmark = pytest.mark.filterwarnings("ignore")  # torch and diffusers warn of themselves

#: A row of each family, with the files of the small model.
SPECS = {row.family: replace(row, id=f"small {row.family}", manifest=None, known=None) for row in MODELS.values()}
T5 = ("wan", "ltx", "cogvideox")
CACHED = tuple(name for name, family in FAMILIES.items() if family.fast is approximations.BLOCK_CACHE)

Load = Callable[..., Any]


@pytest.fixture(scope="module")
def pipeline() -> Any:
    with warnings.catch_warnings():
        hush()  # before torch is imported: threads that wait give up their core
        from runtime import pipeline
    return pipeline


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Where the small model of a family lies, written when it is first asked for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tests import small_models
    root = tmp_path_factory.mktemp("models")

    def directory(family: str) -> Path:
        if not (root / family).exists():
            small_models.save(family, root / family)
        return root / family

    return directory


@pytest.fixture(scope="module")
def load(pipeline: Any, directories: Callable[[str], Path]) -> Load:
    return lambda family, **settings: pipeline.Engine.load(SPECS[family], directories(family), **settings)


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return open_picture(PHOTO)


def test_every_model_is_of_a_family_and_every_family_is_tested() -> None:
    assert {row.family for row in MODELS.values()} == set(FAMILIES) == set(SPECS)


def least(family: str, **changes: Any) -> GenerationRequest:
    """As few frames as the family makes at all."""
    return replace(smallest_request(SPECS[family]), num_frames=FAMILIES[family].fewest_frames(1), **changes)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_makes_as_many_frames_as_the_check_asks_for(family: str, load: Load, photo: Image.Image) -> None:
    request = smallest_request(SPECS[family])
    frames = load(family).generate(photo, request, lambda *_: None).frames
    assert request.num_frames >= 4
    assert frames.shape == (request.num_frames, request.height, request.width, 3)
    assert frames.dtype == np.uint8


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_makes_the_same_video_again_tells_each_step_and_stops_at_any(
    family: str, load: Load, pipeline: Any, photo: Image.Image
) -> None:
    engine, request = load(family), least(family, num_inference_steps=3)
    steps: list[tuple[int, int]] = []
    first = engine.generate(photo, request, lambda *step: steps.append(step)).frames
    assert steps == [(1, 3), (2, 3), (3, 3)]

    def stop_at_the_second(step: int, _steps: int) -> None:
        if step == 2:
            raise pipeline.Cancelled

    with pytest.raises(pipeline.Cancelled):
        engine.generate(photo, request, stop_at_the_second)
    assert np.array_equal(first, engine.generate(photo, request, lambda *_: None).frames)
    assert np.array_equal(first, load(family).generate(photo, request, lambda *_: None).frames)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_picture_and_each_setting_decide_the_video(family: str, load: Load, photo: Image.Image) -> None:
    engine = load(family)
    first = engine.generate(photo, least(family), lambda *_: None).frames
    other = Image.linear_gradient("L").convert("RGB")
    assert not np.array_equal(first, engine.generate(other, least(family), lambda *_: None).frames)
    changes: list[dict[str, Any]] = [{"seed": 6}, {"guidance_scale": 20.0}]
    if SPECS[family].takes_prompt:
        changes += [{"prompt": "a boat on the water"}, {"negative_prompt": "clouds"}]
    for change in changes:
        made = engine.generate(photo, least(family, **change), lambda *_: None).frames
        assert not np.array_equal(first, made), change


@pytest.mark.parametrize("family", ["i2vgen-xl", "svd", "ltx"])
def test_these_families_know_the_frame_rate(family: str, load: Load, photo: Image.Image) -> None:
    engine, request = load(family), smallest_request(SPECS[family])
    first = engine.generate(photo, request, lambda *_: None).frames
    assert not np.array_equal(first, engine.generate(photo, replace(request, fps=30), lambda *_: None).frames)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_runs_in_the_precision_that_a_gpu_would_use(family: str, load: Load, photo: Image.Image) -> None:
    import torch

    spec, exceptions = SPECS[family], FAMILIES[family].fp32_parts
    engine = load(family, precision=spec.precision)
    own = {"fp16": torch.float16, "bf16": torch.bfloat16}[spec.precision]
    parts = engine._pipeline.components.items()
    for name, part in parts:
        if isinstance(part, torch.nn.Module):
            assert part.dtype is (torch.float32 if name in exceptions else own), name
    assert len(engine.generate(photo, least(family), lambda *_: None).frames)


@pytest.mark.parametrize("family", [name for name, family in FAMILIES.items() if family.batches])
def test_two_videos_of_one_call_are_those_that_are_made_alone_to_a_hundred_thousandth(
    family: str, load: Load, photo: Image.Image, monkeypatch: pytest.MonkeyPatch, pipeline: Any
) -> None:
    monkeypatch.setattr(pipeline, "_checked", lambda video, _request: video)  # before rounding to bytes
    engine = load(family)
    pictures = [photo, photo.rotate(90)]
    requests = [least(family, seed=1, prompt="a boat"), least(family, seed=2, prompt="a train", negative_prompt="rain")]
    together = engine.generate_together(pictures, requests, lambda *_: None).videos
    assert np.abs(together[0] - together[1]).max() > 0.01
    for picture, request, made in zip(pictures, requests, together, strict=True):
        alone = engine.generate(picture, request, lambda *_: None).videos[0]
        assert np.abs(made - alone).max() <= 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_the_knobs_that_save_memory_leave_the_video_nearly_as_it_is(
    family: str, load: Load, photo: Image.Image
) -> None:
    engine, request = load(family), smallest_request(SPECS[family])
    plain = engine.generate(photo, request, lambda *_: None).frames
    made = engine.generate(photo, request, lambda *_: None, Knobs(2, forward_chunking=True, tiling=True)).frames
    # SVD's decoder looks along the frames that it decodes together, and tiles are blended at their seams.
    assert np.abs(made.astype(int) - plain.astype(int)).mean() < 16
    assert np.array_equal(plain, engine.generate(photo, request, lambda *_: None).frames)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_denoiser_that_is_stored_in_eight_bits_still_makes_a_video(
    family: str, load: Load, photo: Image.Image
) -> None:
    import torch

    engine = load(family, precision="fp32", residency=Residency(fp8=True))
    denoiser = getattr(engine._pipeline, FAMILIES[family].denoiser)
    assert torch.float8_e4m3fn in {tensor.dtype for tensor in denoiser.parameters()}
    assert len(engine.generate(photo, least(family), lambda *_: None).frames)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_classes_that_are_compiled_block_by_block_are_those_of_the_denoiser(family: str, load: Load) -> None:
    denoiser = getattr(load(family)._pipeline, FAMILIES[family].denoiser)
    found = {type(module).__name__ for module in denoiser.modules()}
    assert set(FAMILIES[family].blocks) <= found


@pytest.mark.parametrize("family", FAMILIES)
def test_on_a_cpu_every_part_is_widened_to_fp32(family: str, load: Load) -> None:
    import torch

    parts = [part for part in load(family)._pipeline.components.values() if isinstance(part, torch.nn.Module)]
    assert {tensor.dtype for part in parts for tensor in part.parameters()} == {torch.float32}


@pytest.mark.parametrize("family", T5)
def test_the_text_encoder_has_the_embedding_of_the_file(
    family: str, load: Load, directories: Callable[[str], Path]
) -> None:
    folder = directories(family) / "text_encoder"
    names = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    assert "encoder.embed_tokens.weight" not in names  # listed once; versions of transformers have left the other empty
    with safe_open(folder / names["shared.weight"], "pt") as file:
        published = file.get_tensor("shared.weight")
    encoder = load(family)._pipeline.text_encoder
    assert encoder.encoder.embed_tokens.weight.equal(published.to(encoder.dtype))


@pytest.mark.parametrize("family", FAMILIES)
def test_what_the_manifest_lists_is_enough_to_load_a_model(
    family: str, pipeline: Any, directories: Callable[[str], Path], tmp_path: Path, photo: Image.Image
) -> None:
    from tests.small_models.encoders import write_clip_tokenizer

    row = next(row for row in MODELS.values() if row.family == family and row.repo)
    listed = {file.path for file in row.files if not file.optional}
    shutil.copytree(directories(family), copy := tmp_path / "model")
    if family == "i2vgen-xl":  # the bundled one has its tokenizer in one file, the published one in four
        write_clip_tokenizer(copy / "tokenizer")
    for path in [path for path in copy.rglob("*") if path.is_file()]:
        if ".safetensors" not in path.name and path.relative_to(copy).as_posix() not in listed:
            path.unlink()
    kinds = {Path(path).parent.as_posix() for path in listed if ".safetensors" in path}
    assert {path.parent.relative_to(copy).as_posix() for path in copy.rglob("*.safetensors")} == kinds
    assert len(pipeline.Engine.load(SPECS[family], copy).generate(photo, least(family), lambda *_: None).frames)


def test_animatediff_keeps_one_copy_of_its_motion_module_and_the_schedule_that_it_learnt(load: Load) -> None:
    loaded = load("animatediff")._pipeline
    assert loaded.motion_adapter is None
    assert loaded.scheduler.config.beta_schedule == "linear"


@pytest.mark.parametrize("mode", ["RGBA", "LA", "L", "P", "CMYK"])
@pytest.mark.parametrize("family", ["i2vgen-xl", "svd", "animatediff", "wan", "ltx"])
def test_pictures_of_any_mode_and_shape_are_taken(family: str, mode: str, load: Load) -> None:
    picture = Image.linear_gradient("L").resize((90, 150)).convert("RGB").convert(mode)
    request = least(family)
    assert len(load(family).generate(picture, request, lambda *_: None).frames) == request.num_frames


@pytest.mark.parametrize(
    ("family", "change", "hint"),
    [
        ("i2vgen-xl", {"width": 96}, "is 128"),
        ("i2vgen-xl", {"num_frames": 65}, "1 to 64"),
        ("svd", {"num_frames": 1}, "2 to 64"),
        ("animatediff", {"num_frames": 33}, "1 to 32"),
        ("wan", {"num_frames": 16}, "is 17"),
        ("wan", {"height": 80}, "is 64"),
        ("wan", {"num_frames": 1}, "5 to 121"),
        ("ltx", {"num_frames": 22}, "is 25"),
        ("ltx", {"num_inference_steps": 1}, "needs 2"),
        ("cogvideox", {"num_frames": 14}, "is 17"),
        ("cogvideox", {"width": 64, "height": 64}, "720x480"),
    ],
)
def test_an_engine_refuses_a_shape_that_its_model_does_not_make(
    family: str, change: dict[str, Any], hint: str, load: Load, photo: Image.Image
) -> None:
    request = replace(smallest_request(SPECS[family]), **change)
    with pytest.raises(InvalidOption) as raised:
        load(family).generate(photo, request, lambda *_: None)
    assert hint in raised.value.hint


@pytest.mark.parametrize("family", T5)
def test_code_that_lies_beside_the_weights_is_not_run(
    family: str, pipeline: Any, directories: Callable[[str], Path], tmp_path: Path
) -> None:
    copy, witness = tmp_path / "model", tmp_path / "witness"
    shutil.copytree(directories(family), copy)
    code = f"import pathlib\npathlib.Path({str(witness)!r}).touch()\nclass Own: pass\n"
    (copy / "own.py").write_text(code)
    (copy / "transformer" / "own.py").write_text(code)
    index = json.loads((copy / "model_index.json").read_text())
    for change in ({"_class_name": ["own", "Own"]}, {"transformer": ["own", "Own"]}):
        (copy / "model_index.json").write_text(json.dumps({**index, **change}))
        with contextlib.suppress(pipeline.loading.LoadProblem):
            pipeline.Engine.load(SPECS[family], copy)
        assert not witness.exists()


def calls_of_second_blocks(engine: Any, photo: Image.Image, request: GenerationRequest) -> int:
    """How often the denoiser's second block is computed for one video."""
    names = FAMILIES[engine.spec.family].blocks
    blocks = [part for part in engine._pipeline.transformer.modules() if type(part).__name__ in names]
    calls: list[None] = []
    counter = blocks[1].attn1.register_forward_pre_hook(lambda *_: calls.append(None))
    engine.generate(photo, request, lambda *_: None)
    counter.remove()
    return len(calls)


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights change more than real ones from step to step: here every change counts as none."""
    monkeypatch.setattr(approximations, "_THRESHOLD", 1e9)


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - set(CACHED)))
@pytest.mark.parametrize(("asked", "made"), [(1, 1), (5, 3), (6, 3)])
def test_fast_makes_half_of_the_steps_that_were_asked_for_and_tells_as_many(
    family: str, asked: int, made: int, load: Load, photo: Image.Image
) -> None:
    steps: list[tuple[int, int]] = []
    request = least(family, num_inference_steps=asked, fast=True)
    frames = load(family).generate(photo, request, lambda *step: steps.append(step)).frames
    assert steps == [(step, made) for step in range(1, made + 1)]
    assert request.steps_of(SPECS[family]) == made
    assert len(frames) == request.num_frames


@pytest.mark.parametrize("family", CACHED)
@pytest.mark.usefixtures("lenient")
def test_fast_leaves_out_blocks_and_tells_every_step(family: str, load: Load, photo: Image.Image) -> None:
    engine, request = load(family), least(family, num_inference_steps=4)
    exact = calls_of_second_blocks(engine, photo, request)
    assert calls_of_second_blocks(engine, photo, replace(request, fast=True)) == exact / 4
    assert calls_of_second_blocks(engine, photo, request) == exact
    steps: list[tuple[int, int]] = []
    engine.generate(photo, replace(request, fast=True), lambda *step: steps.append(step))
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("family", ["wan", "ltx"])
def test_a_block_that_hardly_changes_is_left_out_and_one_that_does_is_not(
    family: str, load: Load, photo: Image.Image
) -> None:
    engine, request = load(family), least(family, num_inference_steps=40)
    exact = calls_of_second_blocks(engine, photo, request)
    assert exact / 40 < calls_of_second_blocks(engine, photo, replace(request, fast=True)) < exact


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.usefixtures("lenient")
def test_a_fast_video_is_another_and_the_same_again_and_leaves_no_trace_however_it_ends(
    family: str, load: Load, pipeline: Any, photo: Image.Image
) -> None:
    import torch

    engine, request = load(family), least(family, num_inference_steps=4)
    hurried = replace(request, fast=True)

    def made(wanted: GenerationRequest) -> Any:
        return engine.generate(photo, wanted, lambda *_: None).frames

    exact, fast = made(request), made(hurried)
    assert not np.array_equal(exact, fast)
    assert np.array_equal(exact, made(request))
    assert np.array_equal(fast, made(hurried))
    assert np.array_equal(fast, load(family).generate(photo, hurried, lambda *_: None).frames)
    for error, raised in ((pipeline.Cancelled, pipeline.Cancelled), (torch.OutOfMemoryError, pipeline.OutOfMemory)):

        def stop_at_the_second(step: int, _steps: int, error: type[Exception] = error) -> None:
            if step == 2:
                raise error

        with pytest.raises(raised):
            engine.generate(photo, hurried, stop_at_the_second)
        assert np.array_equal(exact, made(request))
    assert np.array_equal(fast, made(hurried))


@pytest.mark.parametrize("family", CACHED)
@pytest.mark.usefixtures("lenient")
def test_blocks_are_left_out_of_a_denoiser_that_is_brought_by_groups_as_of_one_that_is_there(
    family: str, load: Load, photo: Image.Image
) -> None:
    request = least(family, num_inference_steps=4)
    plain, brought = load(family), load(family, residency=Residency(offload="group"))
    for wanted in (replace(request, fast=True), request, replace(request, fast=True)):
        frames = [engine.generate(photo, wanted, lambda *_: None).frames for engine in (plain, brought)]
        assert np.array_equal(*frames)


def test_fast_is_refused_where_a_family_has_no_faster_way(monkeypatch: pytest.MonkeyPatch) -> None:
    row = next(row for row in MODELS.values() if row.family == "svd")
    monkeypatch.setattr(shapes, "FAMILIES", {**FAMILIES, "svd": replace(FAMILIES["svd"], fast=None)})
    assert not build_request(model=row).fast
    with pytest.raises(InvalidOption, match="fast is asked for") as raised:
        build_request(model=row, fast=True)
    assert "no faster way" in raised.value.hint


def test_fast_is_refused_where_half_of_the_steps_are_too_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "FAMILIES", {**FAMILIES, "svd": replace(FAMILIES["svd"], least_steps=2)})
    row = next(row for row in MODELS.values() if row.family == "svd")
    assert build_request(model=row, num_inference_steps=3, fast=True).fast
    with pytest.raises(InvalidOption, match="num_inference_steps is 2"):
        build_request(model=row, num_inference_steps=2, fast=True)
