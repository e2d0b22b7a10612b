"""Builds a pickled specification: run as a process of its own, so that it can be killed."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

from images.build import build


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    path, scratch = map(Path, sys.argv[1:])
    spec, recipe, destination = pickle.loads(path.read_bytes())
    build(spec, _say, recipe=recipe, destination=destination, scratch=scratch)
    _say("built")
