"""The summary for a bug report: what it tells, and what it must not."""

import subprocess
import sys
from pathlib import Path

from runtime import __version__, summary
from runtime.job import Job
from runtime.models import model
from runtime.options import build_request
from runtime.summary import Facts
from runtime.timing import Phase
from tests.runtime.conftest import ROOT


def job(**changes: object) -> Job:
    values = {
        "number": 1,
        "id": "video_0123456789abcdef0123456789abcdef",
        "status": "failed",
        "model": "demo",
        "request": build_request(model=model("demo"), prompt="a secret garden", seed=424242),
        "created_at": 1.0,
        "started_at": 2.0,
        "completed_at": 3.0,
        "attempts": 2,
        "lease": 2,
        "error_code": "generation_failed",
        "error_message": "all frames are black",
        "seconds": {"denoise": 1.5, "decode": 0.25},
    }
    return Job(**{**values, **changes})  # type: ignore[arg-type]


def test_it_tells_what_a_reader_of_a_report_needs() -> None:
    told = summary.text(
        Facts(
            versions=summary.versions(),
            state="ready",
            device="a GPU",
            model="demo",
            precision="fp16",
            residency="offload none, fp8 False",
            settings={"port": 8000},
            phases=[Phase("server", 0.0, 0.5), Phase("model load", 0.5, 1.25)],
            jobs=[summary.of_job(job())],
            errors=['{"time": "", "level": "error", "logger": "x", "message": "the worker ended"}'],
        )
    )
    for part in (
        *(f"i2v-setup {__version__}", "torch ", "diffusers ", "a GPU", "fp16", "fp8 False", "port=8000"),
        *("server: 0.50 s", "model load: 1.25 s", "video_01234567…", "attempt 2", "16 frames"),
        *("denoise 1.50 s", "generation_failed: all frames are black", "ERROR the worker ended"),
    ):
        assert part in told, part


def test_it_tells_no_prompt_no_seed_no_key_no_whole_id_and_no_home() -> None:
    whole = job(error_message=f"cannot write {Path.home()}/x: Authorization: Bearer hunter2")
    told = summary.text(
        Facts(versions={}, state="ready", settings={"api_key": "hunter2"}, jobs=[summary.of_job(whole)])
    )
    assert "cannot write ~/x" in told
    for secret in ("secret garden", "424242", "hunter2", whole.id, str(Path.home())):
        assert secret not in told


def test_what_is_not_known_is_left_out_and_nothing_is_said_to_be_nothing() -> None:
    told = summary.text(Facts(versions={"i2v-setup": "1"}, state="not running"))
    assert "device" not in told
    assert "last jobs: none" in told
    assert "last errors: none" in told


def test_the_versions_are_told_without_importing_anything_heavy() -> None:
    code = "import sys; from runtime import summary; summary.versions(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "False\n"
