import base64
import json
from typing import Any

import pytest

from images.progress import Progress
from images.spec import Phase


def _vertex(digest: str, name: str, *times: float, **more: Any) -> dict[str, Any]:
    stamps = [f"2026-01-02T03:04:{seconds:012.9f}Z" for seconds in times]
    return {"digest": digest, "name": name, **dict(zip(("started", "completed"), stamps, strict=False)), **more}


def _log(digest: str, text: str) -> dict[str, Any]:
    return {"vertex": digest, "stream": 2, "data": base64.b64encode(text.encode()).decode()}


def _follow(*documents: dict[str, Any], indent: int | None = None) -> tuple[Progress, list[str]]:
    said: list[str] = []
    progress = Progress(said.append)
    for document in documents:
        for line in json.dumps(document, indent=indent).splitlines(keepends=True):
            progress.feed(line)
    return progress, said


@pytest.mark.parametrize("indent", [None, 2])
def test_phases_come_from_either_form_of_rawjson(indent: int | None) -> None:
    progress, said = _follow(
        {"vertexes": [_vertex("a", "[internal] load metadata for docker.io/library/base:1", 1, 1.5)]},
        {"vertexes": [_vertex("b", "[packages 1/2] RUN --mount=type=cache,target=/c   install <<EOT (set -eu...)", 2)]},
        {"vertexes": [_vertex("b", "[packages 1/2] RUN ...", 2, 6.25)]},
        {"vertexes": [_vertex("c", "exporting to image", 7, 8)]},
        indent=indent,
    )
    base, packages = Phase("base", 0.0, 0.5, 0.5), Phase("packages", 1.0, 4.25, 4.25)
    assert progress.phases() == (base, packages, Phase("export", 6.0, 1.0, 1.0))
    assert "[packages 1/2] RUN install  4.2 s" in [line.replace("   ", " ") for line in said]


def test_waiting_between_the_steps_of_a_phase_is_no_work_of_it() -> None:
    progress, _ = _follow(
        {"vertexes": [_vertex("a", "[app 1/2] COPY x", 1, 2), _vertex("b", "[app 2/2] RUN y", 1.5, 3)]},
        {"vertexes": [_vertex("c", "[app 2/2] RUN z", 10, 11)]},
    )
    assert progress.phases() == (Phase("app", 0.0, 10.0, 3.0),)


def test_a_step_from_the_cache_is_said_to_be() -> None:
    _, said = _follow({"vertexes": [_vertex("a", "[app 1/1] COPY x", 1, 1, cached=True)]})
    assert said == ["[app 1/1] COPY x  cached"]


def test_the_failed_step_is_told_from_those_called_off() -> None:
    progress, _ = _follow(
        {"vertexes": [_vertex("a", "[app 1/1] COPY x", 1), _vertex("b", "[packages 1/1] RUN y", 1)]},
        {"logs": [_log("b", "first\nERROR: no such package\n")]},
        {"vertexes": [_vertex("a", "[app 1/1] COPY x", 1, 2, error="context canceled")]},
        {"vertexes": [_vertex("b", "[packages 1/1] RUN y", 1, 2, error="exit code: 1")]},
    )
    assert progress.failure().step == "[packages 1/1] RUN y"
    assert progress.failure().lines == ("first", "ERROR: no such package", "exit code: 1")


def test_plain_text_is_passed_on_and_remembered() -> None:
    said: list[str] = []
    progress = Progress(said.append)
    progress.feed("#1 [internal] load build definition\n")
    progress.feed("ERROR: failed to solve\n")
    assert said == ["#1 [internal] load build definition", "ERROR: failed to solve"]
    assert progress.failure().lines[-1] == "ERROR: failed to solve"
    assert progress.phases() == ()


def test_no_password_is_passed_on() -> None:
    progress, said = _follow(
        {"vertexes": [_vertex("a", "[packages 1/1] RUN y", 1)]},
        {"logs": [_log("a", "cannot reach https://user:secret@index/simple\n")]},
        {"vertexes": [_vertex("a", "[packages 1/1] RUN y", 1, 2, error="at https://user:secret@index")]},
    )
    progress.feed("ERROR: https://user:secret@index\n")
    assert "secret" not in repr((said, progress.failure()))
