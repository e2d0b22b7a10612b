"""Weights that are brought by a process of its own: killed in the middle, and with a token that nobody else may see."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootstrap import spawn, state, weights
from mirrors import hub_token
from runtime.models import ModelSpec
from tests.bootstrap import hubs
from tests.conftest import ROOT
from tests.mirrors.loopback import Fault, LoopbackMirror, until

TOKEN = "hf_planted0123456789"
BEARER = f"Bearer {TOKEN}"
FILES = {"model_index.json": b"{}", hubs.WEIGHTS: random.Random(7).randbytes(4_000_000)}
CHILD = """
import sys
from dataclasses import replace
from bootstrap import deployments, state, weights
from bootstrap.recorder import Recorder
from mirrors.http import HttpSettings
from runtime.models import model
from tests.bootstrap import hubs
spec = replace(model("demo"), id="published", repo=hubs.REPO, revision=hubs.REVISION, manifest=sys.argv[1], gated=None)
recorder = Recorder("install", model=spec.id)
try:
    told = weights.bring(state.home(), spec, HttpSettings(), on_bytes=lambda _: None, say=print, recorder=recorder)
    print(spec, told)
except Exception as error:
    print(repr(error), getattr(error, "hint", ""), file=sys.stderr)
    sys.exit(1)
finally:
    deployments.save(state.home(), recorder.section())
"""


@pytest.fixture
def hub(home: Path, certificate: tuple[Path, Path]) -> Iterator[LoopbackMirror]:
    """The upstream hub, by https."""
    with LoopbackMirror(certificate=certificate) as server:
        hubs.publish(server, FILES)
        hubs.use(state.home(), server)
        yield server


@pytest.fixture
def mirror(certificate: tuple[Path, Path]) -> Iterator[LoopbackMirror]:
    with LoopbackMirror(certificate=certificate) as server:
        hubs.serve(server, FILES)
        yield server


@pytest.fixture
def unknown(tmp_path: Path) -> ModelSpec:
    return hubs.spec(tmp_path, FILES, open_=FILES)


def start(spec: ModelSpec, authority: Path, **environment: str) -> subprocess.Popen[str]:
    environ = {**os.environ, "REQUESTS_CA_BUNDLE": str(authority), "HF_HOME": "/nowhere", **environment}
    command = [sys.executable, "-c", CHILD, str(spec.manifest)]
    return subprocess.Popen(
        command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
    )


def here_so_far() -> int:
    return sum(path.stat().st_blocks * 512 for path in state.home().store.glob("partial/*") if path.is_file())


def test_a_killed_fetch_goes_on_where_it_was_and_shows_no_half_model(
    hub: LoopbackMirror,
    unknown: ModelSpec,
    certificate: tuple[Path, Path],
) -> None:
    hub.misbehave("*.safetensors", Fault(rate=1_500_000))
    for part in (1, 2):
        process = start(unknown, certificate[0])
        until(lambda part=part: here_so_far() > part * 1_200_000)
        process.kill()
        process.communicate()
        assert not weights.present(state.home(), unknown)
        assert [path for path in state.home().models.glob("*") if not path.name.startswith(".")] == []
    hub.misbehave("*.safetensors", None)
    last = start(unknown, certificate[0])
    _, errors = last.communicate()
    assert last.returncode == 0, errors
    assert weights.present(state.home(), unknown)
    assert (weights.directory(state.home(), unknown) / hubs.WEIGHTS).read_bytes() == FILES[hubs.WEIGHTS]
    assert hub.sent < 1.6 * len(FILES[hubs.WEIGHTS])
    assert len(hub.requested("*/tree/*")) == 1  # what was learnt before the first kill was not lost


@pytest.mark.parametrize("let_in", [True, False])
def test_a_token_opens_the_hub_and_is_seen_by_nobody_else(
    hub: LoopbackMirror,
    mirror: LoopbackMirror,
    unknown: ModelSpec,
    certificate: tuple[Path, Path],
    let_in: bool,
) -> None:
    here = state.home()
    hubs.use(here, hub, mirror)
    refused = Fault(status=403, headers={"X-Error-Code": "GatedRepo"}, without=BEARER if let_in else "")
    hub.misbehave("*", refused)
    process = start(unknown, certificate[0], HF_TOKEN=TOKEN)
    output, errors = process.communicate()
    assert (process.returncode == 0) is let_in, errors
    assert weights.present(here, unknown) is let_in
    assert {seen.headers.get("authorization") for seen in hub.requests} == {BEARER}
    assert {seen.headers.get("authorization") for seen in mirror.requests} == ({None} if let_in else set())
    assert TOKEN not in output + errors
    assert all(TOKEN not in seen.path for seen in (*hub.requests, *mirror.requests))
    root = here.data
    written = [path for path in root.rglob("*") if path.is_file()]
    assert any(path.is_relative_to(here.deployments) for path in written)
    assert [path for path in written if TOKEN.encode() in path.read_bytes()] == []
    if not let_in:
        assert "accept the licence" in errors


def test_no_child_is_given_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    assert spawn.NOT_FOR_CHILDREN == hub_token.VARIABLES
    for name in hub_token.VARIABLES:
        monkeypatch.setenv(name, TOKEN)
    ask = [sys.executable, "-c", "import os; print(dict(os.environ))"]
    assert TOKEN not in spawn.run(ask).output
    assert TOKEN not in spawn.ask(ask, timeout=60).output
