"""The one-shot programs `generate` and `check`, run as a user's machine runs them."""

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

from runtime.models import model
from runtime.options import build_request
from runtime.video import read_settings
from tests.runtime.conftest import PHOTO, ROOT

DEMO = str(model("demo").bundled)
OPTIONS: dict[str, Any] = {"preset": "preview", "size": "128x64", "num_frames": 3, "num_inference_steps": 3, "seed": 5}


def arguments(out: Path, options: dict[str, Any] = OPTIONS, changed: dict[str, object] | None = None) -> list[str]:
    named = {"model-dir": DEMO, "image": PHOTO, "out": out, "options": json.dumps(options), **(changed or {})}
    given = (part for name, value in named.items() for part in (f"--{name}", str(value)))
    return [sys.executable, "-m", "runtime.generate", *given]


def run(command: list[str]) -> tuple[list[dict[str, Any]], subprocess.CompletedProcess[str]]:
    """The events on stdout and the finished process."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    return [json.loads(line) for line in done.stdout.splitlines()], done


def steps(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The phases without those that are a part of another: what is compiled depends on who was here before."""
    return [event for event in events if event["event"] == "phase" and "." not in event["name"]]


def test_a_video_is_made_and_every_phase_is_told(tmp_path: Path) -> None:
    out = tmp_path / "video.mp4"
    events, done = run(arguments(out))
    assert (done.returncode, done.stderr) == (0, "")
    phases = steps(events)
    assert [phase["name"] for phase in phases] == ["imports", "load", "denoise", "decode", "encode"]
    ends = [0.0, *(phase["started"] + phase["seconds"] for phase in phases)]
    assert all(phase["started"] >= end - 0.01 for phase, end in zip(phases, ends, strict=False))
    assert [event["step"] for event in events if event["event"] == "step"] == [1, 2, 3]
    last = events[-1]
    assert last["seconds"] >= ends[-1] - 0.01
    assert (last["event"], last["out"], last["frames"], last["seed"]) == ("done", str(out), 3, 5)
    assert last["request"] == asdict(build_request(model=model("demo"), **OPTIONS))
    with av.open(out) as container:
        assert len(list(container.decode(video=0))) == 3
    assert read_settings(out)["seed"] == 5


def test_the_suffix_decides_the_format(tmp_path: Path) -> None:
    out = tmp_path / "video.GIF"
    events, done = run(arguments(out))
    assert (done.returncode, done.stderr) == (0, "")
    assert events[-1]["request"]["output_format"] == "gif"
    with Image.open(out, formats=["GIF"]) as picture:
        assert (picture.n_frames, picture.size) == (3, (128, 64))  # type: ignore[attr-defined]
    assert read_settings(out)["output_format"] == "gif"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"image": "no.jpg"}, "No such file"),
        ({"image": ROOT / "pyproject.toml"}, "not a picture"),
        ({"options": "{"}, "the options cannot be used"),
        ({"options": "[1]"}, "the options cannot be used"),
        ({"options": '{"stepz": 3}'}, "stepz"),
        ({"options": '{"model": 3}'}, "model"),
        ({"options": '{"output_format": "gif"}'}, "output_format"),
        ({"options": '{"size": 3}'}, "the options cannot be used"),
        ({"options": '{"num_frames": "3"}'}, "num_frames is '3'"),
        ({"model-id": "sora"}, "unknown model 'sora'"),
        ({"out": "/nowhere/video.mp4"}, "no directory /nowhere"),
        ({"out": "/"}, "is a directory"),
        ({"out": "video.avi"}, "does not end in .mp4, .webm, .gif or .zip"),
        ({"model-dir": "/nowhere"}, "does not hold the model demo"),
    ],
)
def test_wrong_input_is_one_line_with_a_hint(tmp_path: Path, changed: dict[str, object], message: str) -> None:
    events, done = run(arguments(tmp_path / "video.mp4", changed=changed))
    assert (done.returncode, done.stderr) == (1, "")
    (error,) = events
    assert error["event"] == "error"
    assert message in error["message"]
    assert error["hint"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_at_the_next_step_and_leaves_no_file(tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "out" / "video.mp4"
    out.parent.mkdir()
    command = arguments(out, {"preset": "preview", "num_inference_steps": 200})
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout
        step = next(event for event in map(json.loads, process.stdout) if event["event"] == "step")
        process.send_signal(number)
        rest = [json.loads(line) for line in process.stdout]
    assert process.returncode == 130
    assert rest[-1] == {"event": "error", "message": "interrupted", "hint": ""}
    assert all(event.get("step", 0) < step["steps"] for event in rest)
    assert list(out.parent.iterdir()) == []


def test_check_verifies_an_environment() -> None:
    events, done = run([sys.executable, "-m", "runtime.check", "--model-id", "demo", "--model-dir", DEMO])
    assert (done.returncode, done.stderr) == (0, "")
    assert [phase["name"] for phase in steps(events)] == ["files", "imports", "load", "generation"]
    assert events[-1]["versions"]["diffusers"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_check_in_the_midst_of_its_imports(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "runtime.check", "--model-id", "demo", "--model-dir", DEMO]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout
        assert json.loads(process.stdout.readline())["name"] == "files"  # the imports are next
        process.send_signal(number)
        rest = [json.loads(line) for line in process.stdout]
    assert process.returncode == 130
    assert rest == [{"event": "error", "message": "interrupted", "hint": ""}]


def test_check_names_the_module_that_cannot_be_imported(tmp_path: Path) -> None:
    """A copy of the runtime beside a package that breaks at import, as a half-built environment has."""
    shutil.copytree(ROOT / "runtime", tmp_path / "runtime", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "av.py").write_text("raise OSError('libavcodec.so.62: cannot open shared object file')")
    command = [sys.executable, "-m", "runtime.check", "--model-dir", DEMO]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    error = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 1
    assert error["message"] == "cannot import av (from av): the shared library libavcodec.so.62 is not there"
