import json
import subprocess
import sys
from functools import partial
from typing import Any

import pytest

from runtime.bounds import InvalidOption
from runtime.families import FAMILIES
from runtime.models import MODELS, ModelSpec, model
from runtime.options import MAX_SEED, PRESETS, GenerationRequest, build_request, smallest_request

build = partial(build_request, model=model("demo"))


def test_the_standard_preset_is_what_the_guidance_says() -> None:
    request = build("standard", seed=1)
    assert (request.width, request.height, request.num_frames) == (512, 512, 16)
    assert (request.num_inference_steps, request.fps, request.guidance_scale) == (40, 8, 9.0)


@pytest.mark.parametrize(
    ("picture", "standard", "preview"),
    [
        ((1000, 1000), (512, 512), (256, 256)),
        ((640, 427), (576, 384), (320, 192)),
        ((427, 640), (384, 576), (192, 320)),
        ((1920, 1080), (640, 384), (320, 192)),
        ((9000, 10), (640, 320), (320, 192)),
    ],
)
def test_without_a_size_the_video_takes_the_shape_of_the_picture(
    picture: tuple[int, int], standard: tuple[int, int], preview: tuple[int, int]
) -> None:
    for name, size in (("standard", standard), ("preview", preview)):
        request = build(name, picture_size=picture)
        assert (request.width, request.height) == size
        assert request.width * request.height <= PRESETS[name].side ** 2


def test_a_size_is_taken_exactly_as_asked() -> None:
    request = build("standard", picture_size=(100, 900), size="768x64")
    assert (request.width, request.height) == (768, 64)


def test_a_length_in_seconds_goes_through_the_frame_rate() -> None:
    assert build("standard", seconds=2.0).num_frames == 16
    assert build("standard", seconds=0.5, fps=24).num_frames == 12


def test_without_a_seed_one_is_drawn() -> None:
    seeds = {build("preview").seed for _ in range(5)}
    assert len(seeds) > 1
    assert max(seeds) <= MAX_SEED


@pytest.mark.parametrize(
    ("settings", "message", "hint"),
    [
        ({"preset": "ultra"}, "'ultra'", "standard, preview"),
        ({"size": "500x512"}, "width is 500", "512"),
        ({"size": "512x9000"}, "height is 9000", "2048"),
        ({"size": "big"}, "'big'", "512x512"),
        ({"fps": 7}, "fps is 7", "8 to 60"),
        ({"num_frames": 0}, "num_frames is 0", "1 to 64"),
        ({"num_inference_steps": 201}, "201", "1 to 200"),
        ({"guidance_scale": 0.0}, "guidance_scale", "0.1 to 50"),
        ({"guidance_scale": float("nan")}, "nan", "a number"),
        ({"seconds": float("inf")}, "seconds is inf", "0.1 to 60"),
        ({"seed": -1}, "seed is -1", "0 to"),
        ({"seed": MAX_SEED + 1}, "seed is", "0 to"),
        ({"num_frames": True}, "True", "a whole number"),
        ({"fast": "yes"}, "fast is 'yes'", "true or false"),
        ({"prompt": "a\x00b"}, "prompt", "plain text"),
        ({"prompt": "a\ud800b"}, "prompt", "plain text"),
        ({"negative_prompt": "x" * 2001}, "2001 characters", "2000"),
    ],
)
def test_what_cannot_be_used_is_named_with_what_can(settings: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(InvalidOption) as raised:
        build(**settings)
    assert message in str(raised.value)
    assert hint in raised.value.hint


def test_unusual_values_are_warned_of_and_allowed() -> None:
    demo, svd = model("demo"), model("svd-xt")
    assert build("standard").warnings_for(demo) == ()
    warnings = build("standard", num_inference_steps=61, guidance_scale=3).warnings_for(demo)
    assert ["61 steps" in warnings[0], "guidance scale 3" in warnings[1]] == [True, True]
    assert build("standard", model=svd).warnings_for(svd) == ()


@pytest.mark.parametrize(
    ("family", "standard", "preview"),
    [
        ("i2vgen-xl", ((576, 384), 16, 8, 9.0), ((320, 192), 8, 8, 9.0)),
        ("svd", ((576, 384), 16, 8, 3.0), ((320, 192), 8, 8, 3.0)),
        ("animatediff", ((576, 384), 16, 8, 7.5), ((320, 192), 8, 8, 7.5)),
        ("wan", ((608, 416), 49, 24, 5.0), ((288, 192), 25, 24, 5.0)),
        ("ltx", ((608, 416), 49, 24, 3.0), ((288, 192), 25, 24, 3.0)),
        ("cogvideox", ((720, 480), 17, 8, 6.0), ((720, 480), 9, 8, 6.0)),
    ],
)
def test_a_preset_takes_the_shape_that_the_model_makes_at_the_presets_length(
    family: str, standard: tuple[Any, ...], preview: tuple[Any, ...]
) -> None:
    spec = next(row for row in MODELS.values() if row.family == family)
    for name, expected in (("standard", standard), ("preview", preview)):
        made = build(name, model=spec, picture_size=(1500, 1000))
        assert ((made.width, made.height), made.num_frames, made.fps, made.guidance_scale) == expected


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seconds", [0.1, 0.7, 1.0, 2.5, 3.0])
def test_a_length_in_seconds_becomes_a_frame_count_that_the_model_makes(family: str, seconds: float) -> None:
    spec = next(row for row in MODELS.values() if row.family == family)
    made = build(model=spec, seconds=seconds)
    limits = FAMILIES[family]
    assert limits.least_frames <= made.num_frames <= limits.most_frames
    assert (made.num_frames - 1) % limits.frame_step == 0
    if limits.least_frames < seconds * made.fps < limits.most_frames:
        assert abs(made.num_frames - seconds * made.fps) <= limits.frame_step / 2 + 0.5


@pytest.mark.parametrize("spec", MODELS.values(), ids=MODELS.keys())
def test_the_smallest_request_is_one_that_the_model_takes(spec: ModelSpec) -> None:
    smallest = smallest_request(spec)
    assert smallest.num_inference_steps == 2
    assert smallest.num_frames >= 4
    assert (smallest.width, smallest.height) in {(64, 64), (720, 480)}


@pytest.mark.parametrize(
    ("model_id", "settings", "message", "hint"),
    [
        ("wan2.2-ti2v-5b", {"num_frames": 16}, "one more than a multiple of 4", "is 17"),
        ("wan2.2-ti2v-5b", {"num_frames": 125}, "num_frames is 125", "5 to 121"),
        ("wan2.2-ti2v-5b", {"size": "500x512"}, "multiples of 32", "is 512"),
        ("ltx-video", {"num_frames": 16}, "one more than a multiple of 8", "is 17"),
        ("ltx-video", {"num_inference_steps": 1}, "num_inference_steps is 1", "2"),
        ("cogvideox-5b-i2v", {"size": "512x512"}, "512x512", "720x480"),
        ("svd-xt", {"num_frames": 1}, "num_frames is 1", "2 to 64"),
        ("animatediff", {"num_frames": 33}, "num_frames is 33", "1 to 32"),
    ],
)
def test_what_a_model_does_not_make_is_refused_with_what_it_makes(
    model_id: str, settings: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(InvalidOption) as raised:
        build(model=model(model_id), **settings)
    assert message in str(raised.value)
    assert hint in raised.value.hint


def test_a_models_own_guidance_goes_before_the_presets_and_after_what_was_asked() -> None:
    svd = model("svd-xt")
    assert build("standard", model=svd).guidance_scale == 3.0
    assert build("standard", model=svd, guidance_scale=5).guidance_scale == 5.0


def test_a_request_survives_json() -> None:
    request = build("preview", prompt="云缓缓飘动\n", model=model("demo"))
    assert GenerationRequest.from_json(request.to_json()) == request


def test_a_request_of_a_version_that_knew_no_fast_is_read_as_an_exact_one() -> None:
    values = json.loads(build("preview", seed=1).to_json())
    assert values.pop("fast") is False
    assert GenerationRequest.from_json(json.dumps(values)) == build("preview", seed=1)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"prompt": 1}', "{"])
def test_json_that_is_no_request_is_refused(text: str) -> None:
    with pytest.raises(InvalidOption):
        GenerationRequest.from_json(text)


def test_json_out_of_bounds_is_refused() -> None:
    values = json.loads(build("preview").to_json())
    with pytest.raises(InvalidOption, match="width"):
        GenerationRequest.from_json(json.dumps({**values, "width": 4096}))


def test_models_and_options_need_the_standard_library_alone() -> None:
    modules = "runtime.models, runtime.options, runtime.families, runtime.shapes"
    code = f"import sys, {modules}; print(*{{name.split('.')[0] for name in sys.modules}})"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert not loaded & {"torch", "numpy", "PIL", "fastapi", "pydantic", "av"}
