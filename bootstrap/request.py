"""What the user asked for with `install` or `bundle`."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bootstrap.errors import UsageProblem
from bootstrap.recipe import UV

if TYPE_CHECKING:
    from bootstrap.bundles.manifest import Bundle

DEFAULT_MODEL = "demo"

_PYTHON = re.compile(r"[0-9]+\.[0-9]+(\.[0-9]+)?")


@dataclass(frozen=True)
class Request:
    """The options, as they were given.

    Attributes:
        model: its id; None: the bundle's, or the demo.
        mirror: auto, an id, a URL, or upstream.
        torch: auto, or the id of a build.
        python: the environment's version of Python; None: ours, where the lock has it.
        backend: what builds the environment.
        requirements: a lock of the user's own, in place of the one that comes with us.
        environment: what the conda back ends solve, or a list that pins packages; None: the one that comes with us.
        hashes: whether all of a user's lock needs a hash, and all of a solution's packages one that was confirmed.
        upgrade: solve anew, even if that was done before.
        rebuild: build the environment anew although it is there.
        verify: verify it although nothing changed.
        offline: ask nobody.
        bundle: a directory that has everything; implies offline.
    """

    model: str | None = None
    mirror: str = "auto"
    torch: str = "auto"
    python: str | None = None
    backend: str = UV
    requirements: Path | None = None
    environment: Path | None = None
    hashes: bool = True
    upgrade: bool = False
    rebuild: bool = False
    verify: bool = False
    offline: bool = False
    bundle: Path | None = None

    def require_sense(self) -> None:
        """Check that the options go together.

        Raises:
            UsageProblem: they do not.
        """
        if self.python is not None and not _PYTHON.fullmatch(self.python):
            raise UsageProblem(f"{self.python!r} is no version of Python", "name one such as 3.12")
        if self.backend == UV:
            if self.environment is not None or self.upgrade:
                raise UsageProblem(
                    "--environment and --upgrade are for the conda back ends", "add --backend mamba, say"
                )
            if not self.hashes and self.requirements is None:
                raise UsageProblem("--no-hashes goes with --requirements", "our own locks have all hashes")
        elif self.requirements is not None or self.python is not None:
            raise UsageProblem(
                f"--requirements and --python do not go with --backend {self.backend}",
                "name the packages and Python in an environment.yml, and that with --environment",
            )
        if self.offline and (not self.hashes or self.upgrade):
            raise UsageProblem("--offline goes with neither --no-hashes nor --upgrade", "both need somebody to ask")

    def from_bundle(self, bundle: Bundle) -> Request:
        """The same, with what the bundle is for.

        Raises:
            UsageProblem: something else was asked for.
        """
        asked = {
            "--model": (self.model, bundle.model),
            "--torch": (None if self.torch == "auto" else self.torch, bundle.build),
            "--python": (self.python, bundle.python),
            "--requirements": (self.requirements and str(self.requirements), bundle.lock_name),
            "--backend": (None if self.backend == UV else self.backend, UV),
        }
        for option, (named, has) in asked.items():
            if named not in (None, has):
                raise UsageProblem(f"{option} {named}: the bundle has {has}", f"leave {option} out")
        return replace(self, model=bundle.model, torch=bundle.build, python=bundle.python, offline=True)
