"""The shipped table of what models take: against fresh measurements, published sizes, and itself."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise, product
from typing import Any, get_args

import pytest

from runtime import footprint
from runtime.footprint import Knobs, Residency, Row, Shape, beside, most_resident, resident
from runtime.model_spec import Arithmetic, ModelSpec
from runtime.models import MODELS, model

GIB = 2**30
NONE, OFFLOADED, GROUPED = Residency(), Residency("model"), Residency("group")
RESIDENCIES = [Residency(offload, fp8) for offload in ("none", "model", "group") for fp8 in (False, True)]
KNOBS = [Knobs(at_once, chunked, tiled) for at_once, chunked, tiled in product((4, 1), (False, True), (False, True))]
STANDARD = Shape(512, 512, 17)


def shipped(model_id: str, precision: Arithmetic | None = None) -> Row:
    row = footprint.row(model_id, precision or model(model_id).precision)
    assert row is not None
    return row


@pytest.fixture(scope="module")
def meter() -> Callable[[str], Any]:
    """What measures on the meta device; see `benchmarks.peaks`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from benchmarks.peaks import Meter
    return lambda model_id: Meter(model_id, model(model_id).precision)


@pytest.mark.parametrize("spec", MODELS.values(), ids=MODELS.keys())
def test_every_model_has_a_row_in_its_own_precision_and_in_fp32(spec: ModelSpec) -> None:
    own, wide = shipped(spec.id), shipped(spec.id, "fp32")
    assert own.denoiser in own.parts
    assert list(own.phases)[-3:] == ["denoise", "decode", "frames"]
    for part, size in own.parts.items():
        assert wide.parts[part] == pytest.approx(size if (spec.family, part) == ("wan", "vae") else 2 * size, rel=0.01)


def test_the_weights_are_as_many_as_those_that_are_published() -> None:
    assert resident(model("i2vgen-xl"), "fp16", NONE) == pytest.approx(4.64 * GIB, rel=0.01)
    for model_id in ("i2vgen-xl", "svd", "svd-xt"):  # in the others some parts are published wider than they are used
        assert resident(model(model_id), "fp16", NONE) == pytest.approx(model(model_id).weight_bytes, rel=0.01)


@pytest.mark.parametrize(
    ("model_id", "phase", "shape", "at_once", "known"),
    [
        ("i2vgen-xl", "denoise", Shape(256, 256, 8), 4, 0.33),
        ("i2vgen-xl", "denoise", Shape(512, 512, 16), 4, 2.59),
        ("i2vgen-xl", "denoise", Shape(768, 768, 24), 4, 8.73),
        ("i2vgen-xl", "denoise", Shape(1280, 704, 16), 4, 8.88),
        ("svd-xt", "denoise", Shape(1024, 576, 25), 4, 7.73),
        ("svd-xt", "decode", Shape(1024, 576, 1), 1, 1.13),
        ("svd-xt", "decode", Shape(1024, 576, 2), 2, 2.25),
        ("svd-xt", "decode", Shape(1024, 576, 8), 8, 9.0),
        ("svd-xt", "decode", Shape(1024, 576, 25), 25, 28.1),
        ("i2vgen-xl", "decode", Shape(512, 512, 1), 1, 0.38),
    ],
)
def test_the_table_has_what_another_program_measured(
    model_id: str, phase: str, shape: Shape, at_once: int, known: float
) -> None:
    """By running one part alone (with less beside it), rounded to the digits that stand here."""
    assert shipped(model_id).phases[phase].bytes(shape, Knobs(at_once)) / GIB == pytest.approx(known, rel=0.025)


@pytest.mark.filterwarnings("ignore")  # torch and diffusers warn of themselves
@pytest.mark.parametrize(
    ("model_id", "shapes"),
    [
        ("demo", [Shape(384, 256, 12), Shape(896, 640, 40)]),
        ("svd-xt", [Shape(576, 384, 14)]),
        ("ltx-video", [Shape(704, 512, 97)]),
    ],
)
def test_a_fresh_measurement_at_a_shape_that_was_not_fitted_is_what_the_table_predicts(
    model_id: str, shapes: list[Shape], meter: Callable[[str], Any]
) -> None:
    fresh, row = meter(model_id), shipped(model_id)
    for shape, knobs in product(shapes, fresh.settings):
        measured = fresh.measure(shape, knobs)
        assert list(measured) == list(row.phases)
        for phase, size in measured.items():
            if size > max(measured.values()) / 10:
                assert row.phases[phase].bytes(shape, knobs) == pytest.approx(size, rel=0.05), phase


@pytest.mark.filterwarnings("ignore")
def test_what_is_still_held_counts_and_what_is_let_go_does_not(meter: Callable[[str], Any]) -> None:
    import torch

    from benchmarks.peaks import _FusedAttention, _LiveBytes

    layer = torch.nn.Linear(1024, 1024, device="meta", dtype=torch.float16)
    live = _LiveBytes([layer])
    with live, torch.no_grad():
        live.enter("chain")
        made = torch.empty(1024, 1024, device="meta", dtype=torch.float16)
        for _ in range(3):
            made = layer(made)  # two of them at a time
        live.enter("attention")
        with _FusedAttention():
            many = made.view(1, 1, 1024, 1024)
            torch.nn.functional.scaled_dot_product_attention(many, many, value=many)
    assert live.peaks == {"chain": 2 * 2 * 1024**2, "attention": 2 * 2 * 1024**2}


@pytest.mark.parametrize("model_id", MODELS)
def test_more_pixels_frames_videos_or_frames_at_once_never_take_less(model_id: str) -> None:
    spec = model(model_id)
    for residency, knobs in product(RESIDENCIES, KNOBS):

        def held(shape: Shape, batch: int = 1, knobs: Knobs = knobs, residency: Residency = residency) -> int:
            return beside(spec, spec.precision, shape, batch, residency, knobs)

        least = held(STANDARD)
        assert held(replace(STANDARD, width=640)) >= least
        assert held(replace(STANDARD, num_frames=25)) >= least
        assert held(STANDARD, batch=2) >= least
        assert held(STANDARD, knobs=replace(knobs, decode_at_once=8)) >= least


@pytest.mark.parametrize("model_id", MODELS)
def test_a_knob_never_costs_memory_where_it_matters_and_spares_its_phase(model_id: str) -> None:
    row = shipped(model_id)
    shape = Shape(720, 480, 49)
    phases = row.phases
    if row.tiles:
        assert phases["decode"].bytes(shape, Knobs(tiling=True)) < 0.5 * phases["decode"].bytes(shape, Knobs())
        assert phases["denoise"].bytes(shape, KNOBS[-1]) == phases["denoise"].bytes(shape, Knobs())
    else:
        assert phases["decode"].bytes(shape, Knobs(1)) < 0.7 * phases["decode"].bytes(shape, Knobs(4))
        assert phases["denoise"].bytes(shape, Knobs(4, True)) < 0.7 * phases["denoise"].bytes(shape, Knobs())
    most = max(phase.bytes(shape, Knobs()) for phase in phases.values())
    assert all(phase.bytes(shape, knobs) <= most for phase in phases.values() for knobs in KNOBS)


@pytest.mark.parametrize("spec", [row for row in MODELS.values() if row.id != "demo"], ids=lambda spec: spec.id)
def test_each_way_of_loading_leaves_less_on_the_gpu_than_the_one_before(spec: ModelSpec) -> None:
    most = [most_resident(spec, spec.precision, residency) for residency in (NONE, OFFLOADED, GROUPED)]
    assert all(first > second for first, second in pairwise(most))
    for residency in (NONE, OFFLOADED, GROUPED):
        narrow = replace(residency, fp8=True)
        assert most_resident(spec, spec.precision, narrow) <= most_resident(spec, spec.precision, residency)
    parts = shipped(spec.id).parts
    assert most[0] == sum(parts.values())
    assert most[1] >= max(parts.values())


def test_with_model_offload_a_part_is_there_until_the_next_in_line_comes() -> None:
    phases = shipped("wan2.2-ti2v-5b").phases
    assert {name: phase.beside for name, phase in phases.items()} == {
        "text": ("text_encoder",),
        "picture": ("text_encoder", "vae"),
        "denoise": ("transformer", "vae"),
        "decode": ("vae",),
        "frames": ("vae",),
    }


def test_weights_in_8_bits_are_about_half_and_their_norms_are_kept() -> None:
    for model_id in MODELS:
        row = shipped(model_id)
        assert row.narrow is not None
        denoiser = row.parts[row.denoiser]
        assert denoiser / 2 < row.narrow[0] < 0.6 * denoiser
        assert shipped(model_id, "fp32").narrow is None  # what is computed in fp32 is not narrowed


def test_what_lies_there_between_calls_and_what_a_call_brings_are_all_that_it_needs() -> None:
    spec, shape = model("cogvideox-5b-i2v"), Shape(720, 480, 49)
    assert resident(spec, "bf16", OFFLOADED) == 0
    assert resident(spec, "bf16", GROUPED) == shipped(spec.id).parts["vae"]
    needs = [
        resident(spec, "bf16", residency) + beside(spec, "bf16", shape, 1, residency, Knobs(tiling=True))
        for residency in (NONE, OFFLOADED, GROUPED)
    ]
    assert all(first > second for first, second in pairwise(needs))


def test_with_autocast_the_weights_are_wide_and_have_narrow_copies() -> None:
    spec = model("i2vgen-xl")
    wide = resident(spec, "fp32", NONE)
    assert resident(spec, "autocast", NONE) == wide
    plain = beside(spec, "fp32", STANDARD, 1, NONE, Knobs())
    assert beside(spec, "autocast", STANDARD, 1, NONE, Knobs()) == pytest.approx(plain + wide / 2)


@pytest.mark.parametrize("precision", get_args(Arithmetic))
def test_a_model_that_the_table_lacks_takes_what_a_guide_says(precision: Arithmetic) -> None:
    spec = replace(model("i2vgen-xl"), id="another")
    for (shape, gigabytes), width in product(
        [(Shape(512, 512, 16), 13), (Shape(768, 768, 24), 18), (Shape(1024, 1024, 32), 22)],
        [2 if precision in {"fp16", "bf16"} else 4],
    ):
        need = resident(spec, precision, NONE) + beside(spec, precision, shape, 1, NONE, Knobs())
        assert need == pytest.approx(gigabytes * 1e9 * width / 2, rel=0.01)
    small, large = (beside(spec, precision, Shape(side, side, 8), 1, NONE, Knobs()) for side in (256, 2048))
    assert 0 < small < large
