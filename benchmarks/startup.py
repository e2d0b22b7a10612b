"""How long `i2v-setup --help` takes, against importing the two libraries that it is drawn with."""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a script: the script beside this one must not stand for the package `mirrors`
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import subprocess
from collections.abc import Sequence

from benchmarks.harness import Row, alternate, main

_HELP = [sys.executable, "-m", "bootstrap.cli", "--help"]
_PEER = [sys.executable, "-c", "import click, rich.console"]


def measure(quick: bool) -> Sequence[Row]:
    """The ratio of the two, each as a whole process."""
    ours, peer = alternate(7 if quick else 25, lambda: _run(_HELP), lambda: _run(_PEER))
    ratio = ours / peer
    return [
        Row(
            "i2v-setup --help / import click, rich.console",
            ratio,
            "x",
            "at most 2",
            ratio <= 2,
            f"{peer * 1000:.0f} ms",
        )
    ]


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)


if __name__ == "__main__":
    main(measure, __doc__ or "")
