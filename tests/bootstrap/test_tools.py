from __future__ import annotations

from pathlib import Path

import pytest

from bootstrap import tools
from bootstrap.tools import Tool


def detected(directory: Path, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> dict[str, Tool]:
    """What is found where PATH has just these programs."""
    for name, script in scripts.items():
        (directory / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (directory / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(directory))
    return {tool.name: tool for tool in tools.detect(patience=1.0)}


def test_a_missing_tool_is_a_fact_and_uv_is_always_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = detected(tmp_path, monkeypatch)
    assert [name for name, tool in found.items() if tool.found] == ["uv"]
    assert (found["uv"].version or "").startswith("uv ")


def test_a_tool_says_its_version_and_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker = (
        'case "$*" in version*) echo 26.1.5 ;; "buildx version") echo "github.com/docker/buildx 0.13.1" ;;'
        """ info*) echo '{"io.containerd.runc.v2":{},"nvidia":{"path":"nvidia-container-runtime"}}' ;; esac"""
    )
    found = detected(
        tmp_path,
        monkeypatch,
        docker=docker,
        ffmpeg='[ "$1" = -version ] && echo "ffmpeg version 7.1 Copyright (c) 2000-2024 the FFmpeg developers"',
        **{"nvidia-ctk": "exit 1"},
    )
    assert (found["docker"].version, found["docker"].note) == ("26.1.5", "engine answers")
    assert found["docker buildx"].version == "github.com/docker/buildx 0.13.1"
    assert found["nvidia container runtime"].note == "registered with Docker"
    assert (found["ffmpeg"].version, found["ffmpeg"].path) == ("ffmpeg version 7.1", str(tmp_path / "ffmpeg"))


def test_a_tool_that_hangs_is_there_and_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = detected(tmp_path, monkeypatch, docker="exec /bin/sleep 60", conda="exec /bin/sleep 60")
    assert (found["docker"].found, found["docker"].version) == (True, None)
    assert "no engine answers" in found["docker"].note
    assert (found["conda"].found, found["conda"].version) == (True, None)
    assert not found["docker buildx"].found
