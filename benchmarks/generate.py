"""How fast the engine makes videos, and in how much memory, against plain diffusers in the same run.

The architectures are the real ones with random weights (`benchmarks.architectures`): nothing is downloaded, and what
comes out is noise that took as long as a video. Plain diffusers is the same weights in a pipeline of its own, called as
its documentation has it: with its own number of frames that are decoded at a time, and with nothing of ours.

    python benchmarks/generate.py                      all models on a GPU, the small ones on a CPU
    python benchmarks/generate.py --quick              the least that says something
    python benchmarks/generate.py --model svd          one model alone; may be given again

Most rows are of few denoising steps, and say of how many: nothing is extrapolated. A row is printed on stderr as soon
as it is known. Knows nothing of how good a video is.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a script: the script beside this one must not stand for the package `mirrors`
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import contextlib
import gc
import inspect
import os
import statistics
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from runtime.quiet import hush

hush()

import torch
from PIL import Image, ImageOps

from benchmarks import cold_start, harness
from benchmarks.architectures import build
from benchmarks.harness import Row
from runtime import footprint, loading, memory
from runtime.device import choose_device, device_name, release, room
from runtime.families import FAMILIES
from runtime.footprint import Knobs, Residency, Shape
from runtime.loading import DTYPES
from runtime.memory import Room, Verdict
from runtime.model_spec import Arithmetic, ModelSpec
from runtime.models import MODELS, model
from runtime.options import PRESETS, GenerationRequest, build_request
from runtime.pipeline import Engine, EngineProblem, OutOfMemory, Videos

#: Seconds that plain diffusers took in fp32, by what was asked for.
Plain = dict[GenerationRequest, float]

GIB = 2**30
PHOTO = Path(__file__).resolve().parents[1] / "examples" / "temple.jpg"
#: Denoising steps of a call that is timed again and again; a step more or less takes as long as any other.
STEPS = 4
#: Counted calls of each that is compared.
RUNS = 5
#: How much longer than plain diffusers ours may take, for the noise.
_AS_FAST = 1.05
#: Where plain diffusers differs from itself by more, nothing can be told.
_TOO_NOISY = 0.15
#: How far the predicted memory may lie from what is measured.
_EXACT = 0.15
_BATCHES = (1, 2, 4)
_PRESETS = ("preview", "standard")
#: What a card that is sold as so many GB has, in GiB, at least (`runtime.memory` goes by the same).
_CARDS = {12: 11.2, 24: 21.5, 40: 38.5}
#: What a CPU can be asked for of a real architecture: at twice the width and height a step took ten seconds.
_ON_CPU = {"size": "64x64", "num_frames": 4, "num_inference_steps": 2}


def main() -> None:
    """Takes `--model` out of the arguments; the rest is as with all benchmarks."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--model", action="append", choices=list(MODELS))
    arguments, sys.argv[1:] = parser.parse_known_args()
    harness.main(partial(measure, models=arguments.model), __doc__ or "")


def measure(quick: bool, models: Sequence[str] | None = None) -> Sequence[Row]:
    """All rows that this machine can tell.

    Args:
        quick: The smallest models and shapes alone.
        models: Those to measure; None: all that suit the device.
    """
    device = choose_device()
    rows = []
    for row in _all(device, quick, models or _suitable(device, quick)):
        told = replace(row, peer=f"{row.peer}; {device_name(device)}")
        value = "-" if row.value is None else f"{row.value:.4g} {row.unit}"
        print(f"{row.name}: {value}", file=sys.stderr, flush=True)
        rows.append(told)
    return rows


def _suitable(device: torch.device, quick: bool) -> Sequence[str]:
    if device.type == "cuda":
        return ("demo", "i2vgen-xl") if quick else list(MODELS)
    return ("demo",) if quick else ("demo", "i2vgen-xl")


def _all(device: torch.device, quick: bool, models: Sequence[str]) -> Iterator[Row]:
    for model_id in models:
        try:
            yield from of_model(model_id, device, quick=quick)
        except Exception as problem:  # noqa: BLE001 - the rows of the other models are not to be lost
            traceback.print_exc()
            what = f"{type(problem).__name__}: {' '.join(str(problem).split())[:200]}"
            yield Row(f"{model_id}: broke off", 1, "times", "0", False, what)
    if "demo" in models:
        yield from cold_start.rows_of_server(1 if quick else 3)
    if "i2vgen-xl" in models and device.type == "cuda" and not quick:
        yield from _cold_start_of_a_real_size("i2vgen-xl")


def of_model(model_id: str, device: torch.device, *, quick: bool) -> Iterator[Row]:
    """All rows of one model."""
    spec = model(model_id)
    if device.type == "cuda":
        yield from _on_gpu(spec, device, quick=quick)
    elif model_id == "demo":
        yield from _small_on_cpu(spec, device, quick=quick)
    else:
        yield from _real_on_cpu(spec, device)


def _on_gpu(spec: ModelSpec, device: torch.device, *, quick: bool) -> Iterator[Row]:
    presets = _PRESETS[:1] if quick else _PRESETS
    plain: Plain = {}
    precisions: tuple[Arithmetic, ...] = ("fp32", spec.precision)
    for precision in precisions:
        _clear(device)
        there, weights = room(device).available, footprint.resident(spec, precision, Residency())
        if memory.MARGIN * weights > there:
            why = f"{weights / GIB:.3g} GiB, and there are {there / GIB:.3g} GiB"
            yield Row(f"{spec.id} {precision}: its weights do not fit", None, "GiB", "-", None, why)
            continue
        try:
            bench = Bench(spec, precision, device)
        except torch.OutOfMemoryError:
            yield Row(f"{spec.id} {precision}: ran out of memory", 1, "times", "0", False, "weights that were to fit")
            continue
        yield from _in_one_precision(bench, presets, plain, quick=quick)
        del bench  # before the next one is built
    if not quick:
        for gigabytes in _CARDS:
            yield from _on_a_card_of(spec, gigabytes, device)


def _in_one_precision(bench: Bench, presets: Sequence[str], plain: Plain, *, quick: bool) -> Iterator[Row]:
    yield from _resident(bench)
    for preset in presets:
        yield from _against_plain(bench, preset, _request(bench.spec, preset, num_inference_steps=STEPS), plain)
    if bench.precision == bench.spec.precision:
        yield from _more_of(bench, presets, quick=quick)


def _more_of(bench: Bench, presets: Sequence[str], *, quick: bool) -> Iterator[Row]:
    """What is measured in the model's own precision alone."""
    spec = bench.spec
    for preset in presets:
        yield from _batches(bench, preset, _request(spec, preset, num_inference_steps=STEPS), _BATCHES)
    if not quick:
        for preset in presets:
            yield from _whole(bench, preset, _request(spec, preset))
        yield from _compiled(bench, presets[-1], _request(spec, presets[-1], num_inference_steps=STEPS))


def _small_on_cpu(spec: ModelSpec, device: torch.device, *, quick: bool) -> Iterator[Row]:
    bench = Bench(spec, "fp32", device)
    plain: Plain = {}
    preview = _request(spec, "preview", num_inference_steps=2 if quick else STEPS)
    yield from _against_plain(bench, "preview", preview, plain)
    if not quick:
        yield from _against_plain(bench, "standard", _request(spec, "standard", num_inference_steps=2), plain)
    batches = _BATCHES[:2] if quick else _BATCHES
    yield from _batches(bench, "preview", _request(spec, "preview", num_inference_steps=2), batches)
    if not quick:
        yield from _whole(bench, "preview", _request(spec, "preview"))
        yield from _compiled(bench, "preview", preview)
    yield from _against_plain(Bench(spec, spec.precision, device), "preview", preview, plain)


def _real_on_cpu(spec: ModelSpec, device: torch.device) -> Iterator[Row]:
    """One small shape: what the engine adds to steps that take seconds."""
    _clear(device)
    request = _request(spec, "preview", **_ON_CPU)
    verdict = memory.decide(spec, "fp32", request, room(device))
    if verdict.fits:
        yield from _against_plain(Bench(spec, "fp32", device), "preview", request, {}, autocast=False)
    else:
        yield _left_out(_name(spec, "fp32", "preview", request), verdict, request)


def _request(spec: ModelSpec, preset: str, **changes: Any) -> GenerationRequest:
    asked = {"prompt": "clouds move over a temple", "seed": 1, **changes}
    return build_request(preset, model=spec, picture_size=_photo().size, **asked)


def _photo() -> Image.Image:
    with Image.open(PHOTO) as picture:
        return picture.convert("RGB")


class Bench:
    """One model with random weights on a device: ours, and plain diffusers over the same weights.

    Attributes:
        spec: The model.
        precision: Of the weights.
        device: Where they lie.
        resident: The bytes that they took there; 0 where that cannot be told.
    """

    def __init__(self, spec: ModelSpec, precision: Arithmetic, device: torch.device) -> None:
        self.spec = spec
        self.precision = precision
        self.device = device
        before = _allocated(device)
        self.pipeline = build(spec.id, DTYPES[precision], device)
        self.resident = _allocated(device) - before
        self._plain = _plain(self.pipeline).to(device)
        self._photo = _photo()

    def engine(self, precision: Arithmetic | None = None) -> Engine:
        """Ours, over these weights."""
        return Engine(self.spec, self.pipeline, self.device, precision or self.precision, Residency())

    def timed(self, engine: Engine, request: GenerationRequest, batch: int = 1, knobs: Knobs | None = None) -> Timed:
        """Ours, ready to be called."""
        requests = [replace(request, seed=request.seed + number) for number in range(batch)]
        return Timed(engine, [self._photo] * batch, requests, knobs)

    def plain(self, request: GenerationRequest) -> Callable[[], Any]:
        """Plain diffusers, ready to be called, with a picture that has the right size already."""
        picture = ImageOps.fit(self._photo, (request.width, request.height), Image.Resampling.LANCZOS)
        arguments = FAMILIES[self.spec.family].arguments([picture], [request], Knobs())
        arguments.pop("decode_chunk_size", None)  # plain diffusers is left its own

        def call() -> Any:
            generator = torch.Generator("cpu").manual_seed(request.seed)
            frames = self._plain(**arguments, generator=generator).frames
            _finish(self.device)
            return frames

        return call


@dataclass
class Timed:
    """Calls of the engine, and what was seen of each; calling it makes one."""

    engine: Engine
    pictures: Sequence[Image.Image]
    requests: Sequence[GenerationRequest]
    knobs: Knobs | None = None
    calls: list[Seen] = field(default_factory=list)

    def __call__(self) -> None:
        """Makes one call, and waits until the device has done it."""
        ends: list[float] = []

        def on_step(step: int, steps: int) -> None:
            if step in (1, steps):  # elsewhere the device is not waited for: it would idle meanwhile
                _finish(self.engine.device)
            ends.append(time.perf_counter())

        _finish(self.engine.device)
        began = time.perf_counter()
        videos = self.engine.generate_together(self.pictures, self.requests, on_step, self.knobs)
        _finish(self.engine.device)
        ended = time.perf_counter()
        between = (len(ends) - 1) / (ends[-1] - ends[0]) if len(ends) > 1 else None
        self.calls.append(Seen(ended - began, ends[-1] - began, ended - ends[-1], between, videos))

    def median(self, name: str) -> float:
        """Of all calls but the first, which has first times of its own; of that one if there is no other."""
        return float(statistics.median(getattr(seen, name) for seen in self.calls[1:] or self.calls))

    @property
    def peak(self) -> int:
        """The most bytes that one of those calls held beside the weights."""
        return max(seen.videos.peak_bytes for seen in self.calls[1:] or self.calls)

    @property
    def problems(self) -> Sequence[EngineProblem]:
        """Why the last call made no video, for each that it did not make."""
        return [video for video in self.calls[-1].videos.videos if isinstance(video, EngineProblem)]

    @property
    def first_peak(self) -> int:
        """The bytes that the first call held. On a CPU they stay with the process, so later calls seem to need none."""
        return self.calls[0].videos.peak_bytes


@dataclass(frozen=True)
class Seen:
    """One call of the engine.

    Attributes:
        seconds: All of it.
        denoise: Until the last step was done, encoders included.
        decode: From there.
        steps_a_second: From the end of the first step to that of the last, so without encoders; None: only one step.
        videos: What came of it.
    """

    seconds: float
    denoise: float
    decode: float
    steps_a_second: float | None
    videos: Videos


def _plain(pipeline: Any) -> Any:
    """Another pipeline over the same parts, without what the engine and the families change in theirs.

    I2VGenXL runs only with what `runtime.families` adds to CLIP's class (huggingface/diffusers#14124), so that stays.
    """
    kind = type(pipeline)
    settings = {name: value for name, value in pipeline.config.items() if name in _optional(kind)}
    plain = kind(**{**settings, **pipeline.components})
    plain.set_progress_bar_config(disable=True)
    return plain


def _optional(kind: Any) -> set[str]:
    """What a pipeline can be given that is no part, as Wan's `expand_timesteps`."""
    parameters = inspect.signature(kind.__init__).parameters.items()
    return {name for name, parameter in parameters if isinstance(parameter.default, bool | int | float)}


def _against_plain(
    bench: Bench, preset: str, request: GenerationRequest, plain_fp32: Plain, *, autocast: bool = True
) -> Iterator[Row]:
    """Ours and plain diffusers in turn, in fp32 with autocast beside it, or in the model's own precision.

    Args:
        bench: The model.
        preset: What the request is called.
        request: What each call makes.
        plain_fp32: The seconds of plain diffusers in fp32: read, and written when this is fp32.
        autocast: Whether to measure it where the weights are fp32.
    """
    precisions: list[Arithmetic] = [bench.precision]
    if bench.precision == "fp32" and autocast:
        precisions.append("autocast")
    ours: dict[Arithmetic, Timed] = {}
    for precision in precisions:
        verdict = _verdict(bench, precision, request)
        if verdict.fits and verdict.residency == Residency():
            ours[precision] = bench.timed(bench.engine(precision), request, knobs=verdict.knobs)
        else:
            yield _left_out(_name(bench.spec, precision, preset, request), verdict, request)
    if not ours:
        return
    plain = bench.plain(request)
    with _watched(bench, preset, request) as ran_out:
        plain_fits = _fits(plain, bench.device)
        # Plain diffusers twice: how far its two medians lie apart is what this machine cannot tell.
        actions: list[Callable[[], object]] = [*ours.values(), plain, plain] if plain_fits else [*ours.values()]
        seconds = harness.alternate(RUNS, *actions)
    yield from ran_out
    if ran_out:
        return
    peers = seconds[-2:] if plain_fits else ()
    if bench.precision == "fp32" and peers:
        plain_fp32[request] = statistics.mean(peers)
    for (precision, timed), took in zip(ours.items(), seconds, strict=False):
        name = _name(bench.spec, precision, preset, request)
        yield from _speed(name, timed, took, preset)
        yield _ratio(name, took, peers, bench, precision)
        if bench.precision != "fp32" and request in plain_fp32:
            yield _narrower(name, took, plain_fp32[request], bench)
        yield from _predicted(name, bench, precision, request, timed)


def _name(spec: ModelSpec, precision: Arithmetic, preset: str, request: GenerationRequest) -> str:
    shape = f"{request.width}x{request.height}x{request.num_frames}"
    return f"{spec.id} {precision} {preset} {shape} in {request.num_inference_steps} steps"


def _speed(name: str, timed: Timed, took: float, preset: str) -> Iterator[Row]:
    request = timed.requests[0]
    parts = f"{timed.median('denoise'):.3g} s to the last step, {timed.median('decode'):.3g} s from there"
    whole = f"{request.num_inference_steps} steps, not the {PRESETS[preset].num_inference_steps} of a whole video"
    yield Row(f"{name}: seconds per video", took, "s", "-", None, f"{parts}; {whole}, median of {RUNS}")
    if timed.calls[0].steps_a_second is not None:
        rate = timed.median("steps_a_second")
        yield Row(f"{name}: denoising steps", rate, "steps/s", "-", None, "nothing: without encoders and decoding")
    if timed.engine.device.type == "cuda":
        ratio = statistics.median(seen.videos.denoise_seconds / seen.denoise for seen in timed.calls)
        bar = f"{1 / _AS_FAST:.2f} to {_AS_FAST}"
        holds = 1 / _AS_FAST <= ratio <= _AS_FAST
        yield Row(f"{name}: denoise_seconds / until the GPU is done", ratio, "x", bar, holds, "what the engine says")
    for problem in timed.problems:
        yield Row(f"{name}: no video", 1, "times", "0", False, str(problem))


def _ratio(name: str, took: float, peers: Sequence[float], bench: Bench, precision: Arithmetic) -> Row:
    """Against the two medians of plain diffusers.

    Autocast is held against it with the same fp32 weights: on a GPU it has to gain by it.
    """
    if not peers:
        return Row(f"{name}: ours / plain diffusers", None, "x", "-", None, "plain diffusers, which ran out of memory")
    plain, noise = statistics.mean(peers), max(peers) / min(peers) - 1
    ratio = took / plain
    apart = f"alternated, median of {RUNS}, twice: {noise:.1%} apart"
    peer = f"plain diffusers in {bench.precision}, {plain:.3g} s, {apart}"
    if precision == "autocast":
        holds = ratio < 1 if bench.device.type == "cuda" else None
        return Row(f"{name}: ours / plain diffusers in fp32", ratio, "x", "below 1 on a GPU", holds, peer)
    within = as_fast(ratio, noise)
    return Row(f"{name}: ours / plain diffusers", ratio, "x", f"at most {_AS_FAST}", within, peer)


def as_fast(ratio: float, noise: float) -> bool | None:
    """Whether ours is as fast; None: that is lost in what the same thing differs from itself."""
    if noise > _TOO_NOISY:
        return None
    if ratio <= _AS_FAST:
        return True
    return None if ratio <= _AS_FAST + noise else False


def _narrower(name: str, took: float, plain: float, bench: Bench) -> Row:
    holds = took < plain if bench.device.type == "cuda" else None
    peer = f"plain diffusers in fp32, {plain:.3g} s, earlier in this run"
    return Row(f"{name}: ours / plain diffusers in fp32", took / plain, "x", "below 1 on a GPU", holds, peer)


def _predicted(
    name: str, bench: Bench, precision: Arithmetic, request: GenerationRequest, timed: Timed
) -> Iterator[Row]:
    """What was predicted beside the weights, and in all, against what a call held."""
    batch = len(timed.requests)
    knobs = timed.knobs or Knobs()
    foreseen = footprint.beside(bench.spec, precision, _shape(request), batch, Residency(), knobs)
    peer = f"{foreseen / GIB:.3g} GiB predicted"
    if bench.device.type != "cuda":
        seen = timed.first_peak
        about = f"{peer}; by the resident size of the process, which keeps what it once had"
        yield Row(f"{name}: peak beside the weights", seen / GIB, "GiB", "-", None, about)
        return
    seen = timed.peak
    yield Row(f"{name}: peak beside the weights", seen / GIB, "GiB", "-", None, peer)
    yield _error(f"{name}: predicted / measured peak beside the weights", foreseen, seen)
    resident = footprint.resident(bench.spec, precision, Residency())
    yield _error(f"{name}: predicted / measured memory in all", foreseen + resident, seen + bench.resident)


def _error(name: str, foreseen: int, seen: int) -> Row:
    ratio = foreseen / seen
    bar = f"{1 - _EXACT:.2f} to {1 + _EXACT:.2f}"
    return Row(name, ratio, "x", bar, abs(ratio - 1) <= _EXACT, f"{seen / GIB:.3f} GiB measured")


def _resident(bench: Bench) -> Iterator[Row]:
    foreseen = footprint.resident(bench.spec, bench.precision, Residency())
    yield _error(f"{bench.spec.id} {bench.precision}: predicted / measured weights", foreseen, bench.resident)


def _batches(bench: Bench, preset: str, request: GenerationRequest, batches: Sequence[int]) -> Iterator[Row]:
    """Several videos in one call, against as many calls."""
    if not FAMILIES[bench.spec.family].batches:
        return
    name, engine = _name(bench.spec, bench.precision, preset, request), bench.engine()
    together: list[Timed] = []
    for batch in batches:
        verdict = _verdict(bench, bench.precision, request, batch)
        if verdict.fits and verdict.residency == Residency():
            together.append(bench.timed(engine, request, batch, verdict.knobs))
        else:
            yield _left_out(f"{name}, {batch} together", verdict, request)
    if not together:
        return
    with _watched(bench, preset, request) as ran_out:
        seconds = harness.alternate(RUNS, *together)
    yield from ran_out
    if ran_out:
        return
    alone = seconds[0] / len(together[0].requests)
    for timed, took in zip(together, seconds, strict=True):
        batch = len(timed.requests)
        each = took / batch
        peer = f"one alone, {alone:.3g} s: {each / alone:.3f} times, alternated"
        yield Row(f"{name}, {batch} together: seconds per video", each, "s", "-", None, peer)
        if batch > 1 and bench.device.type == "cuda":
            yield from _predicted(f"{name}, {batch} together", bench, bench.precision, request, timed)


def _whole(bench: Bench, preset: str, request: GenerationRequest) -> Iterator[Row]:
    """One video of all the preset's steps."""
    name = _name(bench.spec, bench.precision, preset, request)
    verdict = _verdict(bench, bench.precision, request)
    if not (verdict.fits and verdict.residency == Residency()):
        yield _left_out(name, verdict, request)
        return
    timed = bench.timed(bench.engine(), request, knobs=verdict.knobs)
    with _watched(bench, preset, request) as ran_out:
        timed()
    yield from ran_out
    if not ran_out:
        seen = timed.calls[0]
        peer = f"{seen.denoise:.3g} s to the last step, {seen.decode:.3g} s from there; a single call, all the steps"
        yield Row(f"{name}: seconds per video", seen.seconds, "s", "-", None, peer)


def _compiled(bench: Bench, preset: str, request: GenerationRequest) -> Iterator[Row]:
    """With the denoiser's blocks compiled, which stays so: the last thing to do with a bench."""
    name = f"{_name(bench.spec, bench.precision, preset, request)}, compiled"
    verdict = _verdict(bench, bench.precision, request)
    if not (verdict.fits and verdict.residency == Residency()):
        yield _left_out(name, verdict, request)
        return
    engine, family = bench.engine(), FAMILIES[bench.spec.family]
    calls = partial(bench.timed, engine, request, knobs=verdict.knobs)
    first, again, compiled, uncompiled = calls(), calls(), calls(), calls()

    def eagerly() -> None:
        with torch.compiler.set_stance("force_eager"):
            uncompiled()

    with _watched(bench, preset, request) as failed, _code_cache():
        try:
            loading.compile_blocks(getattr(bench.pipeline, family.denoiser), family)
            first()
            torch.compiler.reset()
            again()
            seconds = harness.alternate(RUNS, compiled, eagerly)
        except torch._dynamo.exc.TorchDynamoException as problem:  # no C compiler, for example
            failed.append(Row(f"{name}: fails", 1, "times", "0", False, " ".join(str(problem).split())[:200]))
    torch.compiler.reset()  # lets go of what the compiled code holds
    yield from failed
    if failed:
        return
    eager = f"{seconds[1]:.3g} s uncompiled"
    yield Row(f"{name}: first call", first.median("seconds"), "s", "-", None, f"{eager}; nothing compiled before")
    yield Row(f"{name}: first call with the code kept", again.median("seconds"), "s", "-", None, eager)
    ratio, on_gpu = seconds[0] / seconds[1], bench.device.type == "cuda"
    holds = ratio < 1 if on_gpu else None
    yield Row(f"{name}: later calls, compiled / not", ratio, "x", "below 1 on a GPU", holds, f"{eager}, alternated")


def _on_a_card_of(spec: ModelSpec, gigabytes: int, device: torch.device) -> Iterator[Row]:
    """The preset of a smaller card with no more memory than that has, loaded and called as `runtime.memory` says."""
    limit = round(_CARDS[gigabytes] * GIB)
    _clear(device)
    if limit > room(device).available:
        return
    request = _request(spec, f"{gigabytes}gb", num_inference_steps=2)
    verdict = memory.decide(spec, spec.precision, request, Room("cuda", limit, limit))
    name = f"{_name(spec, spec.precision, f'{gigabytes}gb', request)} within {_CARDS[gigabytes]} GiB"
    if not verdict.fits:
        yield _left_out(name, verdict, request)
        return
    torch.cuda.set_per_process_memory_fraction(limit / room(device).total)
    try:
        peak = _loaded_and_called(spec, request, verdict, device)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        _clear(device)
    said = f"{verdict.need / GIB:.3g} GiB predicted; {'; '.join(verdict.said) or 'nothing spared'}"
    yield Row(f"{name}: ran out of memory", float(peak is None), "times", "0", peak is not None, said)
    if peak is not None:
        yield Row(f"{name}: peak, loading included", peak / GIB, "GiB", "-", None, said)


def _loaded_and_called(
    spec: ModelSpec, request: GenerationRequest, verdict: Verdict, device: torch.device
) -> int | None:
    """The most bytes on the device from before the model was loaded until a video was made; None: it ran out."""
    before = _allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    try:
        pipeline = build(spec.id, DTYPES[spec.precision], "cpu")
        loading.place(pipeline, FAMILIES[spec.family], device, DTYPES[spec.precision], verdict.residency)
        engine = Engine(spec, pipeline, device, spec.precision, verdict.residency)
        Timed(engine, [_photo()], [request], verdict.knobs)()
    except (torch.OutOfMemoryError, OutOfMemory):
        return None
    return int(torch.cuda.max_memory_allocated(device)) - before


def _cold_start_of_a_real_size(model_id: str) -> Iterator[Row]:
    spec = model(model_id)
    with tempfile.TemporaryDirectory() as directory:
        variant = "fp16" if spec.precision == "fp16" else None
        build(model_id, DTYPES[spec.precision], "cpu").save_pretrained(directory, variant=variant)
        gc.collect()
        size = sum(path.stat().st_size for path in Path(directory).rglob("*.safetensors"))
        name = f"{model_id} {spec.precision}, {size / GIB:.1f} GiB in the page cache"
        starts = [cold_start.of_worker(model_id, Path(directory), spec.precision) for _ in range(3)]
        yield from cold_start.rows(name, starts)


def _verdict(bench: Bench, precision: Arithmetic, request: GenerationRequest, batch: int = 1) -> Verdict:
    _clear(bench.device)
    return memory.decide(bench.spec, precision, request, room(bench.device), batch=batch, loaded=Residency())


def _left_out(name: str, verdict: Verdict, request: GenerationRequest) -> Row:
    why = f"the room: would have to wait in main memory: {'; '.join(verdict.said)}" if verdict.fits else ""
    return Row(f"{name}: does not fit", None, "s", "-", None, why or f"the room: {verdict.told(request)}")


@contextlib.contextmanager
def _watched(bench: Bench, preset: str, request: GenerationRequest) -> Iterator[list[Row]]:
    """Gets a row that does not hold if something runs out of memory of which `memory.decide` said that it fits."""
    ran_out: list[Row] = []
    try:
        yield ran_out
    except OutOfMemory:
        name = f"{_name(bench.spec, bench.precision, preset, request)}: ran out of memory"
        ran_out.append(Row(name, 1, "times", "0", False, "what was said to fit"))
    except torch.OutOfMemoryError:  # the engine would have said so itself
        name = f"{_name(bench.spec, bench.precision, preset, request)}: plain diffusers ran out of memory"
        ran_out.append(Row(name, 1, "times", "-", None, "itself, which had enough at first"))
    _clear(bench.device)


def _fits(call: Callable[[], Any], device: torch.device) -> bool:
    """Whether plain diffusers has the memory for it, of whom nobody said so."""
    try:
        call()
    except torch.OutOfMemoryError:
        return False
    finally:
        _clear(device)
    return True


@contextlib.contextmanager
def _code_cache() -> Iterator[None]:
    """An empty directory for compiled code, so that the first call finds none."""
    name = "TORCHINDUCTOR_CACHE_DIR"
    before = os.environ.get(name)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        os.environ[name] = directory
        try:
            yield
        finally:
            os.environ.pop(name)
            if before is not None:
                os.environ[name] = before


def _shape(request: GenerationRequest) -> Shape:
    return Shape(request.width, request.height, request.num_frames)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _allocated(device: torch.device) -> int:
    return int(torch.cuda.memory_allocated(device)) if device.type == "cuda" else 0


def _clear(device: torch.device) -> None:
    """Lets go of what nothing uses any more, on the host and on the device."""
    gc.collect()
    _finish(device)
    release(device)


if __name__ == "__main__":
    main()
