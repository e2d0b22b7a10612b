"""The speed table: that ours and plain diffusers do the same work, and that no row says more than was measured."""

import importlib.util
import json
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

if importlib.util.find_spec("diffusers") is None:
    pytest.skip("needs the runtime's dependencies", allow_module_level=True)

from benchmarks.harness import Row
from runtime.models import MODELS, model
from runtime.options import GenerationRequest, smallest_request

pytestmark = pytest.mark.filterwarnings("ignore")  # torch and diffusers warn of themselves


@pytest.fixture(scope="module")
def generate() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from benchmarks import generate
    return generate


@pytest.fixture(scope="module")
def cpu() -> Any:
    import torch

    return torch.device("cpu")


@pytest.fixture(scope="module")
def bench(generate: Any, cpu: Any) -> Any:
    return generate.Bench(model("demo"), "fp32", cpu)


@pytest.fixture(scope="module")
def request_() -> GenerationRequest:
    return replace(smallest_request(model("demo")), num_inference_steps=3)


def test_ours_and_plain_diffusers_make_the_same_video(bench: Any, request_: GenerationRequest) -> None:
    import torch

    timed = bench.timed(bench.engine(), request_)
    timed()
    torch.manual_seed(request_.seed)  # what the engine does and a plain call leaves to chance
    (plain,) = bench.plain(request_)()
    ours = timed.calls[0].videos.frames
    apart = np.abs(np.stack([np.asarray(frame) for frame in plain]).astype(int) - ours)
    assert ours.std() > 1
    assert apart.max() <= 1  # frames are decoded in other numbers at a time


def test_plain_diffusers_is_another_pipeline_over_the_same_weights_without_what_is_ours(bench: Any) -> None:
    assert bench._plain is not bench.pipeline
    assert bench._plain.unet is bench.pipeline.unet
    assert "prepare_image_latents" in vars(bench.pipeline)  # the family's mending
    assert "prepare_image_latents" not in vars(bench._plain)
    assert "progress_bar" not in vars(bench._plain)


@pytest.mark.parametrize("model_id", MODELS)
def test_plain_diffusers_has_the_settings_of_every_model(model_id: str, generate: Any) -> None:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline = generate.build(model_id, torch.bfloat16, "meta")
    plain = generate._plain(pipeline)
    assert type(plain) is type(pipeline)
    ours, theirs = ({k: v for k, v in each.config.items() if not k.startswith("_")} for each in (pipeline, plain))
    assert theirs == ours


def test_plain_diffusers_is_left_its_own_decoding(
    bench: Any, request_: GenerationRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = []
    decode = bench.pipeline.vae.decode

    def counted(latents: Any, *arguments: Any, **settings: Any) -> Any:
        at_once.append(len(latents))
        return decode(latents, *arguments, **settings)

    monkeypatch.setattr(bench.pipeline.vae, "decode", counted)
    bench.plain(request_)()
    assert at_once == [1] * request_.num_frames
    at_once.clear()
    bench.timed(bench.engine(), request_)()
    assert at_once == [request_.num_frames]


def test_a_call_is_split_at_its_last_step(bench: Any, request_: GenerationRequest) -> None:
    timed = bench.timed(bench.engine(), request_, batch=2)
    timed()
    (seen,) = timed.calls
    assert seen.denoise + seen.decode == pytest.approx(seen.seconds)
    assert 0 < 2 / seen.steps_a_second < seen.denoise
    assert [video.shape[0] for video in seen.videos.videos] == [request_.num_frames] * 2
    assert timed.problems == []


def test_the_first_call_does_not_count_where_there_are_others(generate: Any, bench: Any) -> None:
    timed = generate.Timed(bench.engine(), [], [], None)
    videos = generate.Videos((), 0, 0, 7)
    timed.calls = [generate.Seen(seconds, 0, 0, None, videos) for seconds in (9, 1, 2, 3)]
    assert timed.median("seconds") == 2
    timed.calls = timed.calls[:1]
    assert timed.median("seconds") == 9


def test_ours_is_as_fast_unless_it_is_slower_by_more_than_the_noise(generate: Any) -> None:
    assert generate.as_fast(1.04, 0.0) is True
    assert generate.as_fast(1.08, 0.04) is None
    assert generate.as_fast(1.08, 0.01) is False
    assert generate.as_fast(0.8, 0.4) is None  # a busy machine
    assert generate.as_fast(1.8, 0.4) is None


def test_every_row_of_a_comparison_says_how_many_steps_it_measured(
    generate: Any, bench: Any, request_: GenerationRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "RUNS", 1)
    plain: dict[GenerationRequest, float] = {}
    rows = list(generate._against_plain(bench, "preview", request_, plain))
    assert plain.keys() == {request_}
    assert all("in 3 steps" in row.name for row in rows)
    assert {row.name.split()[1] for row in rows} == {"fp32", "autocast"}
    (ratio,) = [row for row in rows if row.name.endswith("ours / plain diffusers")]
    assert ratio.value is not None
    for row in rows:
        assert row.holds is None or row is ratio  # on a CPU nothing else can be told
    seconds = next(row for row in rows if row.name.endswith("seconds per video"))
    assert "not the 30 of a whole video" in seconds.peer


def test_what_was_measured_with_other_steps_is_not_compared(
    generate: Any, bench: Any, cpu: Any, request_: GenerationRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "RUNS", 1)
    narrow = generate.Bench(model("demo"), "fp16", cpu)
    asked = replace(request_, num_inference_steps=2)

    def against_fp32(plain: dict[GenerationRequest, float]) -> list[Row]:
        rows = generate._against_plain(narrow, "preview", asked, plain)
        return [row for row in rows if row.name.endswith("plain diffusers in fp32")]

    assert against_fp32({request_: 1.0}) == []
    (row,) = against_fp32({asked: 1.0})
    assert row.value is not None
    assert row.holds is None


def test_a_prediction_holds_within_fifteen_percent(generate: Any) -> None:
    for foreseen, holds in ((84, False), (86, True), (114, True), (116, False)):
        assert generate._error("peak", foreseen, 100).holds is holds


def test_several_together_are_told_by_the_video(
    generate: Any, bench: Any, request_: GenerationRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "RUNS", 1)
    alone, both = generate._batches(bench, "preview", request_, (1, 2))
    assert "1 together" in alone.name
    assert "2 together" in both.name
    assert "1.000 times" in alone.peer
    assert f"{both.value / alone.value:.3f} times" in both.peer


def test_what_runs_out_of_memory_though_it_was_said_to_fit_does_not_hold(
    generate: Any, bench: Any, request_: GenerationRequest
) -> None:
    import torch

    with generate._watched(bench, "preview", request_) as ours:
        raise generate.OutOfMemory("took more than there is")
    with generate._watched(bench, "preview", request_) as theirs:
        raise torch.OutOfMemoryError
    with generate._watched(bench, "preview", request_) as nothing:
        pass
    assert [row.holds for row in ours] == [False]
    assert [row.holds for row in theirs] == [None]
    assert nothing == []


def test_a_killed_worker_is_timed_to_its_return() -> None:
    from benchmarks import cold_start

    directory = model("demo").bundled
    assert directory is not None
    start = cold_start.of_worker("demo", directory)
    assert list(start.phases) == ["worker imports", "model load", "warm-up", "first frame"]
    assert sum(list(start.phases.values())[:2]) == pytest.approx(start.loaded)
    assert start.loaded < sum(start.phases.values()) <= start.ready
    assert start.back > 0
    rows = list(cold_start.rows("a worker", [start]))
    assert len({row.name for row in rows}) == len(rows) == 7


def test_the_models_to_measure_are_taken_out_of_the_arguments(
    generate: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[bool, list[str]]] = []

    def measure(quick: bool, models: list[str]) -> list[Row]:
        asked.append((quick, models))
        return [Row("a row", 1.0, "s", "-", None, "nothing")]

    monkeypatch.setattr(generate, "measure", measure)
    written = tmp_path / "rows.json"
    monkeypatch.setattr(sys, "argv", ["generate.py", "--model", "svd", "--quick", "--json", str(written)])
    with pytest.raises(SystemExit) as left:
        generate.main()
    assert left.value.code in (0, False)
    assert asked == [(True, ["svd"])]
    assert [row["name"] for row in json.loads(written.read_text())["rows"]] == ["a row"]
