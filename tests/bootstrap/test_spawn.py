from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bootstrap import spawn


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_lines_come_one_by_one_and_the_last_ones_are_kept() -> None:
    seen: list[str] = []
    done = spawn.run(
        [sys.executable, "-c", "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"],
        on_line=seen.append,
    )
    assert done.code == 3
    assert sorted(seen) == ["err", "out"] == sorted(done.output.splitlines())


def test_a_missing_program_is_told_and_not_raised_as_a_traceback_of_the_system() -> None:
    with pytest.raises(spawn.ProgramMissing, match="no-such-program"):
        spawn.run(["no-such-program"])
    assert spawn.probe(["no-such-program"]) is None
    assert spawn.probe([sys.executable, "-c", "raise SystemExit(1)"]) is None


def test_leaving_the_block_ends_the_whole_group() -> None:
    code = "import subprocess, time; c = subprocess.Popen(['sleep', '600']); print(c.pid, flush=True); time.sleep(600)"
    with spawn.process([sys.executable, "-c", code]) as child:
        grandchild = int(next(spawn.lines(child)))
        assert alive(grandchild)
    deadline = time.monotonic() + 10
    while alive(grandchild) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(grandchild)
    assert child.returncode is not None


def test_the_environment_is_added_to_ours() -> None:
    code = "import os; print(os.environ['ADDED'], os.environ['PATH'] != '')"
    assert spawn.run([sys.executable, "-c", code], env={"ADDED": "yes"}).output == "yes True"


def test_a_child_reads_nothing_from_our_terminal() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from bootstrap import spawn, errors; import sys;"
            "print(spawn.run([sys.executable, '-c', 'import sys; print(repr(sys.stdin.read()))']).output)",
        ],
        input="secret",
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    assert done.stdout.strip() == "''"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_a_child_does_not_outlive_our_own_kill() -> None:
    code = (
        "from bootstrap import spawn; import time\n"
        "with spawn.process(['sleep', '600']) as child: print(child.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        deadline = time.monotonic() + 10
        while b"sleep" not in Path(f"/proc/{child}/cmdline").read_bytes()[:6] and time.monotonic() < deadline:
            time.sleep(0.02)
        parent.kill()
        parent.wait()
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(child)


def processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def in_group(pid: int, group: int) -> bool:
    try:
        return os.getpgid(pid) == group
    except ProcessLookupError:
        return False


@pytest.mark.parametrize("script", ["exec sleep 60", "sleep 60 & wait", "trap '' TERM; sleep 60"])
def test_a_probe_that_hangs_is_given_up_with_all_that_it_started(script: str, tmp_path: Path) -> None:
    with pytest.raises(TimeoutError):
        spawn.ask(["sh", "-c", f"echo $$ > {tmp_path}/pid; {script}"], timeout=0.5)
    group = int((tmp_path / "pid").read_text(encoding="utf-8"))
    deadline = time.monotonic() + 10  # the kernel ends them when it gets to it
    while any(alive(pid) and in_group(pid, group) for pid in processes()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert spawn.probe(["sh", "-c", script], timeout=0.3) is None


def test_a_probe_says_how_it_ended_and_a_missing_program_is_none() -> None:
    assert spawn.ask(["sh", "-c", "echo out; echo err >&2; exit 3"], timeout=5) == spawn.Finished(3, "out\n")
    assert spawn.ask(["sh", "-c", "echo $WHAT"], timeout=5, env={"WHAT": "this"}).output == "this\n"
    assert spawn.probe(["sh", "-c", "exit 1"]) is None
    assert spawn.probe(["nonesuch-program"]) is None
