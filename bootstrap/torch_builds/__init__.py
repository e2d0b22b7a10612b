"""Which build of PyTorch a machine gets: the rows that there are, and the picking among them."""

from bootstrap.torch_builds.picks import Pick, asked, pick, picks
from bootstrap.torch_builds.rows import BUILDS, Platform, TorchBuild, find

__all__ = ["BUILDS", "Pick", "Platform", "TorchBuild", "asked", "find", "pick", "picks"]
