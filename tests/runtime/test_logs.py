"""The log: one JSON object a line, kept in a file of bounded size, without keys, whoever wrote to stderr."""

import json
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runtime import logs
from tests.runtime.conftest import ROOT

KEY = "correct horse battery staple"


def logged(code: str, *arguments: str) -> tuple[list[dict[str, Any]], subprocess.CompletedProcess[str]]:
    """What a process that runs `code` under the log writes to stderr, line by line."""
    program = f"import logging, os, subprocess, sys\nfrom pathlib import Path\nfrom runtime import logs\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, cwd=ROOT, check=False, timeout=60
    )
    return [json.loads(line) for line in done.stderr.splitlines()], done


def test_a_line_is_an_object_with_its_job_and_what_happened() -> None:
    (line,), done = logged("""
with logs.logging_to_stderr():
    logging.getLogger("runtime.x").info("%s: done", "video_1", extra={"job": "video_1", "event": "completed"})
    logging.getLogger("runtime.x").debug("nobody wants to know")
""")
    assert done.returncode == 0
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "info",
        "logger": "runtime.x",
        "message": "video_1: done",
        "job": "video_1",
        "event": "completed",
    }


def test_an_exception_is_one_line_with_its_traceback() -> None:
    (line,), _ = logged("""
with logs.logging_to_stderr():
    try: 1 / 0
    except ZeroDivisionError: logging.getLogger("x").exception("it goes on")
""")
    assert (line["level"], line["message"]) == ("error", "it goes on")
    assert line["error"].endswith("ZeroDivisionError: division by zero")


def test_what_a_child_writes_past_the_log_is_in_it() -> None:
    lines, _ = logged("""
with logs.logging_to_stderr():
    subprocess.run([sys.executable, "-c", "import os; os.write(2, b'a library says so'); 1 / 0"])
""")
    assert {line["logger"] for line in lines} == {"stderr"}
    text = "\n".join(line["message"] for line in lines)
    assert "a library says so" in text
    assert "ZeroDivisionError: division by zero" in text
    assert "error" in {line["level"] for line in lines}


def test_after_the_log_stderr_is_what_it_was() -> None:
    _, done = logged("""
with logs.logging_to_stderr(): pass
import atexit; atexit.register(lambda: os.write(2, b'"plain"'))
""")
    assert done.stderr == '"plain"'


def test_a_key_is_in_no_line_however_it_gets_there() -> None:
    lines, done = logged(
        """
with logs.logging_to_stderr() as log:
    log.hide(sys.argv[1])
    log.keep(Path(sys.argv[2]))
    logging.getLogger("x").info("asked with %s!", sys.argv[1])
    logging.getLogger("x").info("begin%send and%s", sys.argv[1], sys.argv[1])
    try: raise ValueError(sys.argv[1])
    except ValueError: logging.getLogger("x").exception("failed")
    os.write(2, sys.argv[1].encode())
""",
        KEY,
        "/dev/null",
    )
    assert len(lines) == 4
    assert KEY not in done.stderr
    assert lines[0]["message"] == "asked with ***!"
    assert lines[1]["message"] == "begin***end and***"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Authorization: Bearer abc.def-123", "abc.def-123"),
        ("I2V_API_KEY=hunter2", "hunter2"),
        ('{"api_key": "hunter2", "size": 3}', "hunter2"),
        ("GET /v1/videos?access_token=hunter2&limit=3", "hunter2"),
        ("password: hunter2", "hunter2"),
        ("https://user:hunter2@proxy.example:3128/x", "hunter2"),
        ("logged in with hf_AbCdEfGhIjKlMnOp", "hf_AbCdEfGhIjKlMnOp"),
        ("sk-proj-0123456789abcdef", "0123456789abcdef"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "eyJzdWIiOiIxIn0"),
    ],
)
def test_what_looks_like_a_key_is_redacted(text: str, secret: str) -> None:
    assert secret in text
    assert secret not in logs.redact(text)
    assert "***" in logs.redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "video_0123456789abcdef0123456789abcdef: completed in 12.3 s",
        "77 tokens: the prompt was cut",
        "sha256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "listening on http://127.0.0.1:8000",
    ],
)
def test_what_is_no_key_stays(text: str) -> None:
    assert logs.redact(text) == text


def test_the_file_is_for_its_owner_and_stays_small_and_the_last_lines_are_found_over_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "server.log"
    lines, _ = logged(
        """
logs._FILE_BYTES = 10_000
with logs.logging_to_stderr() as log:
    log.keep(Path(sys.argv[1]))
    for number in range(1000): logging.getLogger("x").info("line %d", number)
""",
        str(path),
    )
    files = logs.kept_files(path)
    assert [one.name for one in files] == ["server.log.3", "server.log.2", "server.log.1", "server.log"]
    assert all(one.stat().st_size <= 10_000 for one in files)
    assert {stat.S_IMODE(one.stat().st_mode) for one in files} == {0o600}
    last = [json.loads(line)["message"] for line in logs.last(files, 150)]
    assert last == [line["message"] for line in lines[-150:]]


def test_a_file_that_cannot_be_written_any_more_stops_nothing() -> None:
    lines, done = logged("""
with logs.logging_to_stderr() as log:
    log.keep(Path("/dev/full"))
    logging.getLogger("x").info("one")
    logging.getLogger("x").info("two")
""")
    assert done.returncode == 0
    assert [line["message"] for line in lines] == ["one", "two"]


def test_the_last_errors_are_at_hand_and_nothing_less() -> None:
    lines, done = logged("""
with logs.logging_to_stderr() as log:
    for number in range(7): logging.getLogger("x").error("error %d", number)
    logging.getLogger("x").warning("no error")
    print("\\n".join(log.errors))
""")
    assert [json.loads(line)["message"] for line in done.stdout.splitlines()] == [f"error {it}" for it in range(2, 7)]
    assert len(lines) == 8


def test_a_person_reads_the_time_the_level_and_the_message() -> None:
    line = json.dumps({"time": "2026-01-02T03:04:05.678+00:00", "level": "warning", "logger": "x", "message": "hot"})
    assert logs.readable(line).endswith(" WARNING hot")
    assert "{" not in logs.readable(line)
    assert logs.readable("error: port 8000 is taken") == "error: port 8000 is taken"
    assert logs.readable('{"other": 1}') == '{"other": 1}'
