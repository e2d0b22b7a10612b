from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from bootstrap import deployments, state
from bootstrap.cli import main
from bootstrap.commands.generate import as_typed, generate
from bootstrap.report import Section, Timing
from runtime.formats import FORMATS
from tests.conftest import COMMAND, PHOTO, Invoke

COMMANDS = sorted(main.commands)


def told(output: str) -> tuple[str, str]:
    """The error and the hint: exactly one line each, and nothing like a traceback."""
    lines = output.strip().splitlines()
    errors = [line for line in lines if line.lower().startswith("error: ")]
    hints = [line for line in lines if line.startswith("hint: ")]
    assert len(errors) == 1, output
    assert "Traceback" not in output
    return errors[0], hints[0] if hints else ""


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str, invoke: Invoke) -> None:
    text = invoke(command, "--help").output
    assert f"i2v-setup {command}" in text
    assert "Example" in text


def test_the_version_is_the_distributions(invoke: Invoke) -> None:
    from importlib.metadata import version

    assert invoke("--version").output.strip() == f"i2v-setup {version('i2v-setup')}"


def test_detect_as_json_is_one_document_on_stdout_and_nothing_else(home: Path) -> None:
    secrets = {
        "https_proxy": "http://user:hunter2@proxy.example:3128",
        "all_proxy": "user:hunter2@proxy.example:1080",
        "PIP_PROXY": "user:hunter2@proxy.example:80",
        "PIP_FIND_LINKS": "https://wheels.example/w/?sig=hunter2",
        "PIP_INDEX_URL": "http://user:hunter2@plain.example/simple",
    }
    environment = {**os.environ, **secrets}
    done = subprocess.run(
        [*COMMAND, "detect", "--json", "--offline"], env=environment, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert found["machine"]["cores"] >= 1
    assert found["mirrors"] == []
    assert found["recommended"]["torch"]["build"]
    assert dict(found["machine"]["proxies"])["https_proxy"] == "http://***@proxy.example:3128"
    assert "hunter2" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["install", "--model", "nonesuch"], "nonesuch"),
        (["install", "--mirror", "nonesuch"], "nonesuch"),
        (["install", "--mirror", "http://plain.example/simple"], "plain http"),
        (["install", "--torch", "cu999"], "cu999"),
        (["install", "--mirror", "https://[bad"], "no URL"),
        (["install", "--mirror", "user:hunter2@x/simple"], "@x/simple"),
        (["build-image", "--model", "nonesuch"], "nonesuch"),
        (["mirrors", "--kind", "nonesuch"], "nonesuch"),
    ],
)
def test_an_unknown_name_is_wrong_usage_with_the_known_ones(arguments: list[str], says: str, invoke: Invoke) -> None:
    done = invoke(*arguments)
    error, hint = told(done.output)
    assert done.exit_code == 2
    assert says in error
    assert hint
    assert "hunter2" not in done.output


@pytest.mark.parametrize("command", [["generate", str(PHOTO), "-o", "out.mp4"], ["run"]])
def test_without_an_installation_the_hint_says_how_to_make_one(command: list[str], invoke: Invoke) -> None:
    done = invoke(*command)
    assert done.exit_code == 1
    assert "i2v-setup install" in told(done.output)[1]


def test_a_suffix_of_no_format_is_wrong_usage_before_anything_else_is_looked_at(invoke: Invoke) -> None:
    done = invoke("generate", str(PHOTO), "-o", "out.avi")
    error, hint = told(done.output)
    assert done.exit_code == 2
    assert all(row.suffix in error and row.about in hint for row in FORMATS.values())


def test_the_help_of_generate_says_which_formats_there_are(invoke: Invoke) -> None:
    text = " ".join(invoke("generate", "--help").output.split())
    assert all(f"{row.suffix} ({row.about})" in text for row in FORMATS.values())


def test_a_port_out_of_range_is_clicks_own_usage_error(invoke: Invoke) -> None:
    done = invoke("run", "--port", "99999")
    assert done.exit_code == 2
    assert "99999" in told(done.output)[0]


def test_no_engine_is_one_clear_error(invoke: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    done = invoke("run", "--docker", "i2v-demo:latest")
    assert done.exit_code == 1
    error, hint = told(done.output)
    assert "no Docker engine answers" in error
    assert hint


@pytest.fixture
def small_disk(home: Path) -> Iterator[Callable[[str], None]]:
    """Mounts a small file system as the home, with options; only root may."""
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("needs root to mount a small file system")
    home.mkdir()

    def mount(options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(home)], check=True)

    yield mount
    subprocess.run(["umount", str(home)], check=True)


@pytest.mark.parametrize(("options", "says"), [("size=4m", "MB free"), ("size=4m,ro", "Read-only file system")])
def test_a_full_or_read_only_home_is_told_before_anything_is_written(
    options: str, says: str, home: Path, small_disk: Callable[[str], None]
) -> None:
    small_disk(options)
    command = [*COMMAND, "install", "--torch", "cpu", "--yes"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    error, hint = told(done.stderr)
    assert says in error
    assert "I2V_SETUP_HOME" in hint
    assert not list(home.rglob("pyvenv.cfg"))


def test_a_broken_catalogue_of_the_users_is_named_with_its_line(home: Path, invoke: Invoke) -> None:
    file = state.home().user_mirrors
    file.parent.mkdir(parents=True)
    file.write_text("mirrors:\n  - id: corp\n    kind: pypi\n", encoding="utf-8")
    done = invoke("mirrors")
    assert done.exit_code == 2
    assert "line 2" in told(done.output)[0]


def test_the_users_own_mirror_is_listed(home: Path, invoke: Invoke) -> None:
    file = state.home().user_mirrors
    file.parent.mkdir(parents=True)
    file.write_text(
        "mirrors:\n  - id: corp\n    kind: pypi\n    url: https://user:hunter2@corp.example/simple\n", encoding="utf-8"
    )
    listed = invoke("mirrors", "--kind", "pypi")
    assert "corp.example" in listed.output
    assert "hunter2" not in listed.output
    as_json = invoke("mirrors", "--kind", "pypi", "--json")
    assert "hunter2" not in as_json.output
    assert "corp" in {mirror["id"] for mirror in json.loads(as_json.stdout)}


def test_in_a_pipe_a_url_stays_on_one_line(home: Path, invoke: Invoke) -> None:
    url = f"https://corp.example/{'a/long-way/' * 6}simple"
    file = state.home().user_mirrors
    file.parent.mkdir(parents=True)
    row = {"id": "corp", "kind": "pypi", "url": url, "name": "the name " * 6, "notes": "some notes " * 20}
    file.write_text(json.dumps({"mirrors": [row]}), encoding="utf-8")
    words = invoke("mirrors").stdout.split()
    assert url in words
    assert {mirror["url"] for mirror in json.loads(invoke("mirrors", "--json").stdout)} <= set(words)


def test_report_shows_the_last_deployment_as_table_json_and_page(home: Path, invoke: Invoke, tmp_path: Path) -> None:
    timings = (Timing("verify", "verify", 0.0, 4.0),)
    deployments.save(state.home(), Section("install", "2026-01-02T03:04:05+00:00", 4.0, timings, {"model": "demo"}))
    assert "verify" in invoke("report").stdout
    assert json.loads(invoke("report", "--json").stdout)["sections"][0]["kind"] == "install"
    page = tmp_path / "report.html"
    assert invoke("report", "--html", str(page)).exit_code == 0
    assert "verify" in page.read_text(encoding="utf-8")


def test_what_the_file_system_refuses_is_one_clear_error(home: Path, invoke: Invoke) -> None:
    home.mkdir()
    (home / "envs").write_text("", encoding="utf-8")
    done = invoke("install", "--torch", "cpu", "--yes")
    assert done.exit_code == 1
    assert str(home / "envs") in told(done.output)[0]


def test_options_that_mean_nothing_together_are_wrong_usage(invoke: Invoke) -> None:
    assert invoke("run", "--docker", "x", "--host", "0.0.0.0").exit_code == 2
    assert invoke("run", "--gpus", "all").exit_code == 2


def test_nothing_to_undo_is_said(invoke: Invoke) -> None:
    done = invoke("undo")
    assert done.exit_code == 0
    assert "nothing to undo" in done.output


def test_a_pipe_that_closes_early_gives_no_traceback(home: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m bootstrap.cli mirrors --json | head -1",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("install", "--json", "--model", "nope"),
        ("install", "--torch", "nonsense", "--json"),
        ("report", "--json"),
        ("report", "--list", "--json", "--trace", "x"),
        ("clean", "--older-than", "soon", "--json"),
        ("generate", "no.png", "-o", "v.mp4", "--frames", "many", "--json"),
    ],
)
def test_an_error_is_one_json_document_too_where_json_was_asked_for(home: Path, arguments: tuple[str, ...]) -> None:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)
    error, hint = told(done.stderr)
    document = json.loads(done.stdout)
    assert done.returncode != 0
    assert error.lower() == f"error: {document['error']}".lower()
    assert hint == (f"hint: {document['hint']}" if document["hint"] else "")


def test_the_list_of_commands_is_in_the_order_of_use_and_in_whole_sentences(invoke: Invoke) -> None:
    text = invoke("--help").output.partition("Commands:")[2]
    assert "..." not in text
    assert text.index("  detect") < text.index("  install") < text.index("  run") < text.index("  clean")


def test_a_setting_that_cannot_be_used_is_called_what_was_typed() -> None:
    with click.Context(generate) as ctx:
        assert as_typed(ctx, "num_frames is 0, negative_prompt and fps are not") == (
            "--frames is 0, --negative-prompt and fps are not"
        )


def test_a_closed_stdout_is_no_traceback(home: Path) -> None:
    command = f"{' '.join(COMMAND)} models >&-"
    done = subprocess.run(["/bin/sh", "-c", command], stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_fast_is_handed_on_only_where_it_is_asked_for() -> None:
    given = ["photo.jpg", "-o", "video.mp4"]
    asked = [generate.make_context("generate", [*given, *more]).params["fast"] for more in ([], ["--fast"])]
    assert asked == [None, True]
