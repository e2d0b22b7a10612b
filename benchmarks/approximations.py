"""What `fast` saves, and how far its video is from the exact one.

    python benchmarks/approximations.py [--quick] [--json FILE]

Fewer steps with a better solver. The video of 200 usual steps is the reference; the peer is the usual sampler with as
many steps as `fast` makes, and a solver that is no closer to the reference than that does not earn its place. Measured
on the bundled demo model, on a small SVD, and on a denoiser that is known exactly: the best one there is for cut-outs
of the photo with a little noise on them, more or less, under the noise of the family. Only the last one denoises
anything: the weights of the models are random, so they show how exact and fast the arithmetic is, and nothing of how a
video looks.

Left out blocks. Small Wan and LTX models with random weights and two blocks: how many calls of the second one are left
out, what that changes, and what time it takes. Nothing follows from that for real weights, whose blocks change in their
own way, nor for their time: the first of thirty blocks costs less than the first of two. Those rows have no bar.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a script: the script beside this one must not stand for the package `mirrors`
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.quiet import hush

hush()

import torch

from benchmarks import harness
from benchmarks.harness import Row
from runtime.families import FAMILIES
from runtime.models import MODELS, ModelSpec, model
from runtime.options import GenerationRequest, build_request
from runtime.pipeline import Engine
from runtime.uploads import open_picture
from tests import small_models

PHOTO = open_picture(Path(__file__).resolve().parents[1] / "examples" / "temple.jpg")
STEPS, REFERENCE = 40, 200
RUNS = 5
#: How far from a cut-out of the photo, whose values go from -1 to 1, the known denoiser's data lie.
WIDTHS = (0.01, 0.03, 0.1)

Values = npt.NDArray[np.floating[Any]]


def measure(quick: bool) -> list[Row]:
    """All rows; the quick ones are of one seed and a smaller video."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as directory:
        for made in _all(Path(directory), quick):
            print(made, file=sys.stderr)
            rows.append(made)
    return rows


def _all(directory: Path, quick: bool) -> Iterator[Row]:
    seeds = range(1 if quick else 3)
    demo = model("demo")
    assert demo.bundled is not None
    shape = {"size": "64x64" if quick else "128x128", "num_frames": 4, "prompt": "clouds drift"}
    yield from _solved("demo", Engine.load(demo, demo.bundled), shape, seeds)
    yield from _solved("small SVD", _small("svd", directory), {"size": "64x64", "num_frames": 2}, seeds)
    for family in ("i2vgen-xl", "animatediff"):
        yield from _known(family, _small(family, directory))
    for family in ("wan", "ltx"):
        yield from _cached(family, _small(family, directory))


def _solved(name: str, engine: Engine, shape: dict[str, Any], seeds: Sequence[int]) -> Iterator[Row]:
    exact, fast, fewer, usual = [], [], [], []
    for seed in seeds:
        request = build_request(model=engine.spec, num_inference_steps=STEPS, seed=seed, **shape)
        reference = _video(engine, replace(request, num_inference_steps=REFERENCE))
        made = _video(engine, request)
        quick = _video(engine, replace(request, fast=True))
        exact.append(_apart(made, reference))
        fast.append(_apart(quick, reference))
        fewer.append(_apart(_video(engine, replace(request, num_inference_steps=STEPS // 2)), reference))
        usual.append((_apart(quick, made), _psnr(quick, made)))
    yield from _against(name, exact, fast, fewer)
    apart, psnr = (statistics.mean(values) for values in zip(*usual, strict=True))
    yield Row(f"{name}: fast, from the same steps exact", apart, "of 255", "none", None, f"{STEPS} steps")
    yield Row(f"{name}: the same as PSNR", psnr, "dB", "none", None, f"{STEPS} steps")
    yield _time(name, engine, request, 0.7)


def _against(name: str, exact: list[float], fast: list[float], fewer: list[float]) -> Iterator[Row]:
    """The differences from the reference, in means over all seeds."""
    slow, quick, peer = statistics.mean(exact), statistics.mean(fast), statistics.mean(fewer)
    reference = f"{REFERENCE} steps"
    yield Row(f"{name}: {STEPS} usual steps, from the reference", slow, "of 255", "none", None, reference)
    yield Row(f"{name}: {STEPS // 2} usual steps, from the reference", peer, "of 255", "none", None, reference)
    yield Row(f"{name}: fast, from the reference", quick, "of 255", "none", None, reference)
    told = f"{STEPS // 2} usual steps"
    yield Row(f"{name}: fast's difference", quick / peer, "of theirs", "below 1", quick < peer, told)


def _known(family: str, engine: Engine) -> Iterator[Row]:
    """The solvers alone, with the best denoiser that there can be for a small set of pictures."""
    pipeline, fast = engine._pipeline, FAMILIES[family].fast
    assert fast is not None
    references = [_denoised(pipeline, REFERENCE, width) for width in WIDTHS]

    def apart(steps: int) -> list[float]:
        return [
            _apart(_denoised(pipeline, steps, width), reference)
            for width, reference in zip(WIDTHS, references, strict=True)
        ]

    exact, fewer = apart(STEPS), apart(STEPS // 2)
    with fast.held(pipeline):
        quick = apart(fast.steps(STEPS))
    yield from _against(f"known denoiser, {family}'s noise", exact, quick, fewer)


def _denoised(pipeline: Any, steps: int, width: float) -> Values:
    """64 cut-outs of the photo, of 255, from noise.

    The denoiser's data are normal distributions of that width around each cut-out, so what it has to say can be
    calculated.
    """
    photo = torch.from_numpy(np.asarray(PHOTO.convert("RGB").resize((96, 64)))).double() / 127.5 - 1
    data = torch.stack([photo[y : y + 16, x : x + 16].flatten() for y in range(0, 48, 4) for x in range(0, 80, 4)])
    scheduler = pipeline.scheduler
    scheduler.set_timesteps(steps)
    noisy = torch.randn(64, data.shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    alphas = torch.cumprod(1 - scheduler.betas.double(), 0)
    for t in scheduler.timesteps:
        signal, noise = alphas[int(t)].sqrt(), (1 - alphas[int(t)]).sqrt()
        spread = (signal * width) ** 2 + noise**2
        near = torch.softmax(-(torch.cdist(noisy, signal * data) ** 2) / (2 * spread), 1) @ data
        clean = near + signal * width**2 / spread * (noisy - signal * near)
        said = (noisy - signal * clean) if scheduler.config.prediction_type == "epsilon" else (signal * noisy - clean)
        noisy = scheduler.step(said / noise, t, noisy).prev_sample
    made: Values = noisy.numpy() * 127.5
    return made


def _cached(family: str, engine: Engine) -> Iterator[Row]:
    name, rest = f"small {family}", "random weights"
    request = build_request(
        model=engine.spec, size="64x64", num_frames=9, num_inference_steps=STEPS, seed=1, prompt="clouds drift"
    )
    exact, all_calls = _counted(engine, request)
    fast, calls = _counted(engine, replace(request, fast=True))
    skipped = 100 * (1 - calls / all_calls)
    yield Row(f"{name}: calls of the second block left out", skipped, "%", "none", None, rest)
    yield Row(f"{name}: fast, from the exact video", _apart(fast, exact), "of 255", "none", None, rest)
    yield Row(f"{name}: the same as PSNR", _psnr(fast, exact), "dB", "none", None, rest)
    yield _time(name, engine, request, None)


def _counted(engine: Engine, request: GenerationRequest) -> tuple[Values, int]:
    """The video, and how often the denoiser's second block was computed for it."""
    family = FAMILIES[engine.spec.family]
    blocks = [part for part in engine._pipeline.transformer.modules() if type(part).__name__ in family.blocks]
    calls: list[None] = []
    counter = blocks[1].attn1.register_forward_pre_hook(lambda *_: calls.append(None))
    try:
        return _video(engine, request), len(calls)
    finally:
        counter.remove()


def _time(name: str, engine: Engine, request: GenerationRequest, most: float | None) -> Row:
    def make(wanted: GenerationRequest) -> None:
        engine.generate(PHOTO, wanted, lambda *_: None)

    slow, quick = harness.alternate(RUNS, lambda: make(request), lambda: make(replace(request, fast=True)))
    share = quick / slow
    peer = f"exact, {slow:.2f} s"
    bar, holds = ("none", None) if most is None else (f"below {most}", share < most)
    return Row(f"{name}: fast's time", share, "of the exact", bar, holds, peer)


def _small(family: str, directory: Path) -> Engine:
    small_models.save(family, directory / family)
    row: ModelSpec = next(row for row in MODELS.values() if row.family == family)
    return Engine.load(replace(row, manifest=None), directory / family)


def _video(engine: Engine, request: GenerationRequest) -> Values:
    return engine.generate(PHOTO, request, lambda *_: None).frames.astype(float)


def _apart(made: Values, other: Values) -> float:
    return float(np.abs(made - other).mean())


def _psnr(made: Values, other: Values) -> float:
    return float(10 * np.log10(255**2 / np.mean((made - other) ** 2)))


if __name__ == "__main__":
    torch.set_num_threads(min(2, torch.get_num_threads()))
    harness.main(measure, "What fast saves, and how far its video is from the exact one.")
