"""The whole HTTP interface under random requests made from its own description: never a 5xx, never another shape."""

import os
import shutil
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.runtime.conftest import Server

PROGRAM = shutil.which("schemathesis", path=sysconfig.get_path("scripts"))
CHECKS = "not_a_server_error,status_code_conformance,response_schema_conformance,content_type_conformance"

#: As many as there are: a new one is tried as well, or this number is wrong.
OPERATIONS = 16


def examples(number: int, server: Server, tmp_path: Path) -> None:
    """So many of each operation; a reload for each of them would be all that this machine does."""
    assert PROGRAM
    server.wait_ready()
    command = [PROGRAM, "run", f"{server.url}/openapi.json", "--checks", CHECKS, "--max-examples", str(number)]
    command += ["--exclude-path", "/admin/reload", "--phases", "examples,coverage,fuzzing", "--seed", "7"]
    command += ["--no-color", "--continue-on-failure", "--generation-database", "none"]
    environment = {**os.environ, "CI": "1"}
    found = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert found.returncode == 0, found.stdout[-8000:] + found.stderr[-2000:]
    assert f"Operations:       {OPERATIONS - 1} selected / {OPERATIONS} total" in found.stdout
    assert server.request("GET", "/ready").status_code == 200


@pytest.mark.timeout(600)
def test_random_requests_get_no_server_error_and_the_described_answers(
    new_server: Callable[..., Server], tmp_path: Path
) -> None:
    examples(20, new_server(), tmp_path)


@pytest.mark.soak
@pytest.mark.timeout(6 * 3600)
def test_very_many_random_requests_get_no_server_error(new_server: Callable[..., Server], tmp_path: Path) -> None:
    examples(500, new_server(), tmp_path)
