import json
import subprocess
import sys
from typing import Any

import pytest

from runtime.models import model
from runtime.options import MAX_SEED, PRESETS, GenerationRequest, InvalidOption, build_request


def test_the_standard_preset_is_what_the_guidance_says() -> None:
    request = build_request("standard", seed=1)
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
        request = build_request(name, picture_size=picture)
        assert (request.width, request.height) == size
        assert request.width * request.height <= PRESETS[name].side ** 2


def test_a_size_is_taken_exactly_as_asked() -> None:
    request = build_request("standard", picture_size=(100, 900), size="768x64")
    assert (request.width, request.height) == (768, 64)


def test_a_length_in_seconds_goes_through_the_frame_rate() -> None:
    assert build_request("standard", seconds=2.0).num_frames == 16
    assert build_request("standard", seconds=0.5, fps=24).num_frames == 12


def test_without_a_seed_one_is_drawn() -> None:
    seeds = {build_request("preview").seed for _ in range(5)}
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
        ({"guidance_scale": float("nan")}, "nan", "float"),
        ({"seconds": float("inf")}, "seconds is inf", "0.1 to 60"),
        ({"seed": -1}, "seed is -1", "0 to"),
        ({"seed": MAX_SEED + 1}, "seed is", "0 to"),
        ({"num_frames": True}, "True", "int"),
        ({"prompt": "a\x00b"}, "prompt", "plain text"),
        ({"prompt": "a\ud800b"}, "prompt", "plain text"),
        ({"negative_prompt": "x" * 2001}, "2001 characters", "2000"),
    ],
)
def test_what_cannot_be_used_is_named_with_what_can(settings: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(InvalidOption) as raised:
        build_request(**settings)
    assert message in str(raised.value)
    assert hint in raised.value.hint


def test_unusual_values_are_warned_of_and_allowed() -> None:
    demo, svd = model("demo"), model("svd-xt")
    assert build_request("standard").warnings_for(demo) == ()
    warnings = build_request("standard", num_inference_steps=61, guidance_scale=3).warnings_for(demo)
    assert ["61 steps" in warnings[0], "guidance scale 3" in warnings[1]] == [True, True]
    assert build_request("standard", model=svd).warnings_for(svd) == ()


def test_a_models_own_guidance_goes_before_the_presets_and_after_what_was_asked() -> None:
    svd = model("svd-xt")
    assert build_request("standard", model=svd).guidance_scale == 3.0
    assert build_request("standard", model=svd, guidance_scale=5).guidance_scale == 5.0


def test_a_request_survives_json() -> None:
    request = build_request("preview", prompt="云缓缓飘动\n", model=model("demo"))
    assert GenerationRequest.from_json(request.to_json()) == request


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"prompt": 1}', "{"])
def test_json_that_is_no_request_is_refused(text: str) -> None:
    with pytest.raises(InvalidOption):
        GenerationRequest.from_json(text)


def test_json_out_of_bounds_is_refused() -> None:
    values = json.loads(build_request("preview").to_json())
    with pytest.raises(InvalidOption, match="width"):
        GenerationRequest.from_json(json.dumps({**values, "width": 1000}))


def test_models_and_options_need_the_standard_library_alone() -> None:
    code = "import sys, runtime.models, runtime.options; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert not loaded & {"torch", "numpy", "PIL", "fastapi", "pydantic", "av"}
