"""What fits, by which settings, and what would fit instead. No GPU is asked: the room is a number."""

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise, product
from typing import Any

import pytest

from runtime.footprint import Knobs, Residency, Shape, beside, resident
from runtime.memory import MARGIN, Room, Verdict, decide, tier
from runtime.models import MODELS, model
from runtime.options import PRESETS, GenerationRequest, build_request
from runtime.shapes import check_makes

GIB = 2**30
XL, COG = model("i2vgen-xl"), model("cogvideox-5b-i2v")
REAL = [row for row in MODELS if row != "demo"]
#: What cards that are sold as 8, 12, 16, 24, 40 and 80 GB have.
CARDS = (7.8, 11.8, 15.7, 23.6, 39.5, 79.2)
ORDER = [Residency(), Residency("model"), Residency(fp8=True), Residency("model", True)]
ORDER += [Residency("group"), Residency("group", True)]


def ways(model_id: str) -> list[Residency]:
    """In which a model can be loaded, from the cheapest to the dearest."""
    return [way for way in ORDER if model_id in {"wan2.2-ti2v-5b", "ltx-video", "cogvideox-5b-i2v"} or not way.fp8]


def gpu(gib: float) -> Room:
    """A card, of which half a GiB is in use by something else."""
    return Room("cuda", round(gib * GIB), round((gib - 0.5) * GIB))


def wanted(model_id: str = "i2vgen-xl", preset: str = "standard", **changes: Any) -> GenerationRequest:
    return replace(build_request(preset, model=model(model_id), seed=1), **changes)


def decided(model_id: str, gib: float, preset: str = "standard") -> Verdict:
    return decide(model(model_id), model(model_id).precision, wanted(model_id, preset), gpu(gib))


def need(model_id: str, request: GenerationRequest, residency: Residency, knobs: Knobs) -> float:
    spec, shape = model(model_id), Shape(request.width, request.height, request.num_frames)
    held = beside(spec, spec.precision, shape, 1, residency, knobs)
    return MARGIN * (resident(spec, spec.precision, residency) + held)


def short(verdict: Verdict) -> str:
    """How a verdict is written in the table below."""
    residency, knobs = verdict.residency, verdict.knobs
    words: list[str] = [residency.offload] if residency.offload != "none" else []
    words += ["fp8"] * residency.fp8 + ["tiles"] * knobs.tiling + ["chunks"] * knobs.forward_chunking
    words += [f"by {knobs.decode_at_once}"] * (knobs.decode_at_once < 4)
    return " ".join(words) if verdict.fits else "no"


# By hand, in GiB. The UNets have 2.6 to 4.6 of weights, and the standard preset computes 2 to 3 more: even 8 is enough,
# where I2VGen-XL's feed-forward layers are chunked and SVD decodes two frames at a time. The others have a T5 of 9 to
# 11, so they are on the card as a whole only from 24 (LTX, 13.2 in all) or 40 on; part by part they fit once T5 and VAE
# do (9.3 to 13.2, hence 12 or 16) or, with CogVideoX, its denoiser of 10.5 does, which in 8 bits leaves 12 enough;
# below that they come block by block. Tiles come where decoding takes more than all that: 5.2 for Wan, 14.8 for
# CogVideoX.
@pytest.mark.parametrize(
    ("model_id", "expected"),
    [
        ("i2vgen-xl", ("chunks", "", "", "", "", "")),
        ("svd", ("by 2", "", "", "", "", "")),
        ("svd-xt", ("by 2", "", "", "", "", "")),
        ("animatediff", ("", "", "", "", "", "")),
        ("wan2.2-ti2v-5b", ("group tiles", "group", "model", "model", "", "")),
        ("ltx-video", ("group", "model", "model", "", "", "")),
        ("cogvideox-5b-i2v", ("group tiles", "model fp8 tiles", "model tiles", "model", "tiles", "")),
    ],
)
def test_the_standard_preset_on_each_card(model_id: str, expected: tuple[str, ...]) -> None:
    assert tuple(short(decided(model_id, gib)) for gib in CARDS) == expected


@pytest.mark.parametrize(("gib", "preset"), [(11.8, "12gb"), (23.6, "24gb"), (39.5, "40gb")])
@pytest.mark.parametrize("model_id", REAL)
def test_every_model_makes_the_preset_of_a_tier_on_a_card_of_that_tier(model_id: str, gib: float, preset: str) -> None:
    assert decided(model_id, gib, preset).fits


@pytest.mark.parametrize(
    ("gib", "preset", "expected"),
    [
        (5.2, "12gb", "model chunks"),  # 2.8 of UNet and VAE, and 1.2
        (4.2, "12gb", "group chunks"),  # 1.7 of VAE and the UNet's largest blocks, and 1.2
        (3.6, "12gb", "no"),
        (7.8, "24gb", "group chunks"),  # 4.1 that is computed even so; with 2.8 of UNet and VAE it is too much
        (11.8, "24gb", "chunks"),
        (15.7, "24gb", ""),  # 4.6 and 8.7, and a tenth
        (11.8, "40gb", "no"),  # 9.7 that is computed even so
        (15.7, "40gb", "model chunks"),
        (23.6, "40gb", "chunks"),
        (39.5, "40gb", ""),  # 4.6 and 20.7, and a tenth
    ],
)
def test_i2vgen_xl_uses_the_settings_one_after_the_other(gib: float, preset: str, expected: str) -> None:
    assert short(decided("i2vgen-xl", gib, preset)) == expected


@pytest.mark.parametrize("model_id", REAL)
def test_no_setting_is_used_that_is_not_needed(model_id: str) -> None:
    for gib, preset in product((4, 6, *CARDS), PRESETS):
        request, verdict = wanted(model_id, preset), decided(model_id, gib, preset)
        assert verdict.fits == (MARGIN * verdict.need <= verdict.available)
        if not verdict.fits:
            continue
        knobs = verdict.knobs
        lesser = [replace(knobs, tiling=False), replace(knobs, forward_chunking=False)]
        lesser += [replace(knobs, decode_at_once=2 * knobs.decode_at_once)] if knobs.decode_at_once < 4 else []
        for less in lesser:
            assert less == knobs or need(model_id, request, verdict.residency, less) > verdict.available
        for cheaper in ways(model_id)[: ways(model_id).index(verdict.residency)]:
            assert need(model_id, request, cheaper, Knobs(1, True, True)) > verdict.available


@pytest.mark.parametrize("model_id", REAL)
def test_what_fits_a_card_fits_a_larger_one_at_no_higher_a_price(model_id: str) -> None:
    for preset in PRESETS:
        verdicts = [decided(model_id, gib, preset) for gib in (3, 5, *CARDS)]
        for smaller, larger in pairwise(verdicts):
            assert larger.fits or not smaller.fits
            assert not smaller.fits or ORDER.index(larger.residency) <= ORDER.index(smaller.residency)


@pytest.mark.parametrize("model_id", REAL)
def test_what_is_offered_instead_fits_is_made_and_is_less(model_id: str) -> None:
    spec, offers = model(model_id), 0
    for gib, preset in product((2, 3, 5, 6, 8, 12), ("24gb", "40gb")):
        request = wanted(model_id, preset)
        if spec.family != "cogvideox":
            request = replace(request, width=2 * request.width, height=2 * request.height)
        verdict = decide(spec, spec.precision, request, gpu(gib))
        assert not (verdict.fits and verdict.instead)
        assert len(set(verdict.instead)) == len(verdict.instead) <= 3
        for shape in verdict.instead:
            smaller = replace(request, width=shape.width, height=shape.height, num_frames=shape.num_frames)
            check_makes(spec, shape.width, shape.height, shape.num_frames, request.num_inference_steps)
            assert decide(spec, spec.precision, smaller, gpu(gib)).fits
            assert shape.volume < request.width * request.height * request.num_frames
            assert shape.width / shape.height == pytest.approx(request.width / request.height)
        offers += len(verdict.instead)
    assert offers


def test_the_most_frames_and_the_largest_size_and_the_preview_are_offered() -> None:
    request = wanted(width=1024, height=1024, num_frames=48)
    verdict = decide(XL, "fp16", request, gpu(11.8))
    assert verdict.instead == (Shape(1024, 1024, 28), Shape(768, 768, 48), Shape(256, 256, 8))
    for more in (replace(request, num_frames=29), replace(request, width=832, height=832)):
        assert not decide(XL, "fp16", more, gpu(11.8)).fits
    assert verdict.told(request).startswith("1024x1024 with 48 frames needs 17.")
    assert "there are 11.3 GiB; what would fit: 1024x1024 with 28 frames, or 768x768 with 48" in verdict.told(request)


def test_where_not_even_the_preview_fits_nothing_is_offered() -> None:
    verdict = decided("i2vgen-xl", 1.5, "24gb")
    assert (verdict.fits, verdict.instead) == (False, ())


def test_nothing_is_said_or_turned_where_there_is_plenty_of_room() -> None:
    for model_id in MODELS:
        verdict = decided(model_id, 200)
        assert (verdict.residency, verdict.knobs, verdict.said, verdict.instead) == (Residency(), Knobs(), (), ())


@pytest.mark.parametrize(
    ("model_id", "gib", "preset", "said"),
    [
        ("i2vgen-xl", 7.8, "12gb", ["one frame at a time: slower"]),
        ("i2vgen-xl", 7.8, "24gb", ["one frame at a time", "block by block at every step: much slower"]),
        ("animatediff", 7.8, "24gb", ["decodes 2 frames at a time", "one frame at a time", "block by block"]),
        ("cogvideox-5b-i2v", 11.8, "24gb", ["tiles: slower", "needed: slower", "8 bits: the video changes a little"]),
        ("wan2.2-ti2v-5b", 15.7, "24gb", ["tiles: slower", "main memory until they are needed: slower"]),
    ],
)
def test_every_setting_is_said_with_what_it_costs(model_id: str, gib: float, preset: str, said: list[str]) -> None:
    verdict = decided(model_id, gib, preset)
    assert verdict.fits
    assert all(words in "; ".join(verdict.said) for words in said)
    residency, knobs = verdict.residency, verdict.knobs
    used = [residency.offload != "none", residency.fp8, knobs.tiling, knobs.forward_chunking, knobs.decode_at_once < 4]
    assert len(verdict.said) == sum(used)


def test_svds_frames_are_said_to_suffer_from_smaller_handfuls_and_the_others_are_not() -> None:
    for model_id, flickers in (("svd", True), ("animatediff", False)):
        spec, request = model(model_id), wanted(model_id, width=1024, height=1024, num_frames=4)
        plain = need(model_id, request, Residency(), Knobs())
        verdict = decide(spec, "fp16", request, Room("cuda", 24 * GIB, round(plain) - 1))
        assert verdict.knobs == Knobs(2)
        assert ("flicker" in verdict.said[0]) == flickers


def test_on_a_cpu_no_weights_are_moved_about() -> None:
    for gib in (8, 12, 15, 64):
        verdict = decide(XL, "fp32", wanted(), Room("cpu", 64 * GIB, gib * GIB))
        assert verdict.residency == Residency()
        assert verdict.fits == (gib > 14)
    assert (verdict.knobs, verdict.said) == (Knobs(), ())
    assert decide(XL, "fp32", wanted(), Room("cpu", 64 * GIB, 15 * GIB)).knobs == Knobs(forward_chunking=True)


def test_weights_that_are_computed_in_32_bits_do_not_wait_in_8() -> None:
    spec, request = model("ltx-video"), wanted("ltx-video")
    assert decide(spec, "bf16", request, gpu(9)).residency == Residency("group")
    for gib in range(2, 60):
        assert not decide(spec, "fp32", request, gpu(gib)).residency.fp8


def test_what_was_measured_goes_before_what_is_predicted_for_the_way_it_is_loaded() -> None:
    assert decide(XL, "fp16", wanted(), gpu(24)).residency == Residency()
    ran_out = decide(XL, "fp16", wanted(), gpu(24), learnt=lambda *_: 30 * GIB, loaded=Residency())
    assert (ran_out.fits, ran_out.residency, ran_out.knobs) == (True, Residency("model"), Knobs())
    tight = gpu(2)
    assert not decide(XL, "fp16", wanted(), tight).fits
    assert decide(XL, "fp16", wanted(), tight, learnt=lambda *_: 1 << 20, loaded=Residency("model")).fits


def test_what_was_measured_is_asked_for_each_setting_and_what_is_not_known_is_predicted() -> None:
    asked = []

    def learnt(request: GenerationRequest, batch: int, knobs: Knobs) -> int | None:
        asked.append((request.num_frames, batch, knobs))
        return 40 * GIB if knobs == Knobs() else None

    verdict = decide(XL, "fp16", wanted(), gpu(24), batch=2, learnt=learnt)
    assert asked == [(16, 2, Knobs()), (16, 2, Knobs(2))]
    assert (verdict.fits, verdict.residency, verdict.knobs) == (True, Residency(), Knobs(2))


def test_what_ran_out_of_memory_is_not_tried_the_same_way_again() -> None:
    """The dispatcher keeps all the room there was as the peak of what ran out."""
    room, loaded, ran_out = gpu(12), Residency("model"), dict[Knobs, int]()
    tried = []
    for _ in range(10):
        verdict = decide(
            XL, "fp16", wanted(), room, learnt=lambda _request, _batch, knobs: ran_out.get(knobs), loaded=loaded
        )
        if verdict.residency != loaded:
            break
        assert verdict.knobs not in tried
        tried.append(verdict.knobs)
        ran_out[verdict.knobs] = room.available - resident(XL, "fp16", loaded)
    assert len(tried) == 6


def test_several_videos_in_one_call_take_more() -> None:
    one, two = (decide(XL, "fp16", wanted(), gpu(80), batch=batch) for batch in (1, 2))
    assert 1.3 * one.need < two.need < 2 * one.need
    assert decide(XL, "fp16", wanted(preset="40gb"), gpu(39.5), batch=1).knobs == Knobs()
    assert decide(XL, "fp16", wanted(preset="40gb"), gpu(39.5), batch=2).knobs == Knobs(forward_chunking=True)


@pytest.mark.parametrize("loaded", ORDER)
def test_a_worker_is_kept_as_it_is_loaded_where_the_request_fits(loaded: Residency) -> None:
    request = wanted(COG.id)
    assert decide(COG, "bf16", request, gpu(80), loaded=loaded).residency == loaded
    kept = decide(COG, "bf16", request, gpu(15.7), loaded=loaded)
    enough = need(COG.id, request, loaded, Knobs(tiling=True)) <= gpu(15.7).available
    assert kept.residency == (loaded if enough else Residency("model"))
    assert enough == (loaded.offload != "none")


def test_a_model_that_the_table_lacks_is_decided_by_the_guide_and_not_moved_about() -> None:
    spec = replace(XL, id="another")
    for gib, preset, fits in ((14, "12gb", True), (13.5, "12gb", False), (20, "24gb", True), (24, "40gb", True)):
        verdict = decide(spec, "fp16", wanted(preset=preset), gpu(gib))
        assert (verdict.fits, verdict.residency, verdict.knobs) == (fits, Residency(), Knobs())
    assert decide(spec, "fp16", wanted(), gpu(13)).instead


@pytest.mark.parametrize(
    ("gib", "name"),
    [
        (7.6, None),
        (10.75, None),  # sold as 11 GB
        (11.6, "12gb"),
        (12, "12gb"),
        (15.7, "12gb"),
        (22.0, "24gb"),  # with error correction
        (23.5, "24gb"),
        (31.4, "24gb"),
        (39.4, "40gb"),
        (79.1, "40gb"),
    ],
)
def test_a_card_belongs_to_the_tier_that_it_is_sold_as(gib: float, name: str | None) -> None:
    assert tier(round(gib * GIB)) == name
    assert name is None or name in PRESETS


def test_deciding_needs_the_standard_library_alone() -> None:
    code = "import sys, runtime.memory; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not set(loaded) & {"torch", "numpy", "PIL", "diffusers"}
