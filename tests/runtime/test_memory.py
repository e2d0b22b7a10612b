"""What fits, by which settings, and what would fit instead. No GPU is asked: the room is a number."""

from dataclasses import replace
from typing import Any

import pytest

from runtime.footprint import Knobs, Residency, beside, resident
from runtime.memory import MARGIN, Room, decide, tier
from runtime.models import MODELS, model
from runtime.options import PRESETS, GenerationRequest, build_request

GIB = 2**30
XL = model("i2vgen-xl")


def gpu(gib: float) -> Room:
    return Room("cuda", round(gib * GIB), round((gib - 0.5) * GIB))


def wanted(model_id: str = "i2vgen-xl", preset: str = "standard", **changes: Any) -> GenerationRequest:
    return replace(build_request(preset, model=model(model_id), seed=1), **changes)


@pytest.mark.parametrize(
    ("model_id", "size", "known"),
    [
        ("i2vgen-xl", (512, 512, 16), 2.59),
        ("i2vgen-xl", (768, 768, 24), 8.73),
        ("i2vgen-xl", (1280, 704, 16), 8.88),
        ("i2vgen-xl", (256, 256, 8), 0.33),
        ("svd-xt", (1024, 576, 25), 7.73),
    ],
)
def test_the_prediction_is_what_the_real_architecture_takes(
    model_id: str, size: tuple[int, int, int], known: float
) -> None:
    width, height, frames = size
    request = wanted(model_id, width=width, height=height, num_frames=frames)
    floats = width * height * frames * 3 * 4 * 2
    predicted = beside(model(model_id), "fp16", request, 1, Knobs(1)) - floats
    assert predicted == pytest.approx(known * GIB, rel=0.02)


def test_the_weights_are_those_of_the_manifest_and_wider_in_fp32() -> None:
    assert resident(XL, "fp16", Residency()) == pytest.approx(4.64 * GIB, rel=0.01)
    assert resident(XL, "fp32", Residency()) == 2 * resident(XL, "fp16", Residency())
    assert resident(XL, "fp16", Residency("model")) == pytest.approx(2.84e9, rel=0.01)  # the UNet


@pytest.mark.parametrize("model_id", [row for row in MODELS if row != "demo"])
def test_more_pixels_frames_videos_or_frames_at_once_never_take_less(model_id: str) -> None:
    spec = model(model_id)
    request = wanted(model_id)
    least = beside(spec, spec.precision, request, 1, Knobs(1))
    assert beside(spec, spec.precision, replace(request, width=request.width + 64), 1, Knobs(1)) >= least
    assert beside(spec, spec.precision, replace(request, num_frames=request.num_frames + 8), 1, Knobs(1)) >= least
    assert beside(spec, spec.precision, request, 2, Knobs(1)) >= least
    assert beside(spec, spec.precision, request, 1, Knobs(8)) >= least


@pytest.mark.parametrize(
    ("gib", "preset", "fits"),
    [
        (11.8, "12gb", True),
        (11.8, "24gb", False),
        (7.8, "12gb", True),
        (5.8, "12gb", False),
        (23.6, "24gb", True),
        (23.6, "40gb", False),
        (39.4, "40gb", True),
        (79.2, "40gb", True),
    ],
)
def test_i2vgen_xl_fits_the_cards_that_the_tiers_are_for(gib: float, preset: str, fits: bool) -> None:
    verdict = decide(XL, "fp16", wanted(preset=preset), gpu(gib))
    assert verdict.fits == fits
    assert fits == (MARGIN * verdict.need <= verdict.available)


def test_nothing_is_said_or_turned_where_there_is_plenty_of_room() -> None:
    verdict = decide(XL, "fp16", wanted(), gpu(80))
    assert (verdict.residency, verdict.knobs, verdict.said, verdict.instead) == (Residency(), Knobs(), (), ())


@pytest.mark.parametrize(
    ("gib", "offload", "at_once"), [(13, "none", 4), (9.6, "none", 2), (8.8, "none", 1), (6.7, "model", 1)]
)
def test_the_cheaper_setting_is_used_before_the_dearer_one_and_said(gib: float, offload: str, at_once: int) -> None:
    verdict = decide(XL, "fp16", wanted(width=1024, height=1024, num_frames=4), gpu(gib))
    assert verdict.fits
    assert (verdict.residency.offload, verdict.knobs.decode_at_once) == (offload, at_once)
    assert ("main memory" in " ".join(verdict.said)) == (offload == "model")
    assert (f"decodes {at_once} frame" in " ".join(verdict.said)) == (at_once < 4)


def test_on_a_cpu_no_weights_are_moved_about() -> None:
    room = Room("cpu", 16 * GIB, 8 * GIB)
    verdict = decide(XL, "fp32", wanted(), room)
    assert not verdict.fits
    assert verdict.residency == Residency()


@pytest.mark.parametrize("model_id", ["i2vgen-xl", "svd", "animatediff", "ltx-video", "wan2.2-ti2v-5b"])
def test_what_is_offered_instead_fits_and_is_less(model_id: str) -> None:
    spec, request = model(model_id), wanted(model_id, "40gb")
    offers = 0
    for gib in (6, 8, 12, 16, 24):
        verdict = decide(spec, spec.precision, request, gpu(gib))
        for shape in verdict.instead:
            smaller = replace(request, width=shape.width, height=shape.height, num_frames=shape.num_frames)
            assert decide(spec, spec.precision, smaller, gpu(gib)).fits
            area, most = shape.width * shape.height, request.width * request.height
            assert area * shape.num_frames < most * request.num_frames
        offers += len(verdict.instead)
        assert not (verdict.fits and verdict.instead)
    assert offers


def test_what_was_measured_goes_before_what_is_predicted() -> None:
    assert decide(XL, "fp16", wanted(), gpu(24)).fits
    ran_out = decide(XL, "fp16", wanted(), gpu(24), learnt=lambda *_: 30 * GIB, loaded=Residency())
    assert ran_out.residency == Residency("model")
    tight = gpu(5.5)
    assert not decide(XL, "fp16", wanted(), tight).fits
    assert decide(XL, "fp16", wanted(), tight, learnt=lambda *_: 1 << 20, loaded=Residency("model")).fits


def test_a_worker_that_is_loaded_otherwise_is_kept_where_the_request_fits() -> None:
    assert decide(XL, "fp16", wanted(), gpu(80), loaded=Residency("model")).residency == Residency("model")


@pytest.mark.parametrize(
    ("gib", "name"), [(7.6, None), (11.6, "12gb"), (15.7, "12gb"), (23.5, "24gb"), (39.4, "40gb"), (79.1, "40gb")]
)
def test_a_card_belongs_to_the_tier_that_it_is_sold_as(gib: float, name: str | None) -> None:
    assert tier(round(gib * GIB)) == name
    assert name is None or name in PRESETS
