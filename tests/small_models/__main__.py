"""The command that `tests.small_models` describes."""

import argparse
from pathlib import Path

from tests.small_models import WRITERS, save

parser = argparse.ArgumentParser(description="Write a small model with random weights.")
parser.add_argument("family", choices=WRITERS)
parser.add_argument("directory", type=Path)
parser.add_argument("--seed", type=int, default=0)
arguments = parser.parse_args()
save(arguments.family, arguments.directory, arguments.seed)
