"""What there is to deploy, as data: an image of the server, and where its model's files are."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from images import sandbox
from runtime.models import ModelSpec

#: Seconds for which a stop waits for the job that is made.
DRAIN = 120
#: From there until the server is killed.
PATIENCE = DRAIN + sandbox.GRACE_SECONDS
#: How long loading a model may take, from a slow disk, before the server counts as one that does not start.
LOADING_SECONDS = 1800
_GIB = 1 << 30
#: What the server's processes, /tmp and a video's frames take, beside the weights: a round number.
_BESIDE_WEIGHTS = 8 * _GIB
_NOT_IN_NAMES = re.compile(r"[^a-z0-9-]+")


@dataclass(frozen=True)
class Deployable:
    """A server to deploy.

    Attributes:
        image: its image, by digest where that is known.
        model: that it serves.
        gpu: whether its torch is for an NVIDIA GPU.
        model_dir: where the model's files are on the machine that runs it; None: in the image, or in the next.
        weights_image: an image of the model's files alone.
    """

    image: str
    model: ModelSpec
    gpu: bool
    model_dir: Path | None = None
    weights_image: str | None = None

    @property
    def name(self) -> str:
        """What all that belongs to it is named."""
        return f"i2v-{_NOT_IN_NAMES.sub('-', self.model.id.lower())}"

    @property
    def pinned(self) -> bool:
        """Whether the image is named by digest."""
        return "@" in self.image

    @property
    def memory_gib(self) -> int:
        """Main memory that it may use. A GPU's weights are there too while they are loaded, or wait for their turn."""
        copies = 1 if self.gpu else 2
        return -(-(copies * self.model.weight_bytes + _BESIDE_WEIGHTS) // _GIB)

    @property
    def memory_reason(self) -> str:
        """Why so much."""
        weights = "The weights" if self.gpu else "The weights in FP32, as CPUs compute"
        return f"{weights}, and {_BESIDE_WEIGHTS // _GIB} GiB for all else."

    @property
    def weights_gib(self) -> int:
        """Room for the model's files."""
        return -(-self.model.weight_bytes // _GIB) + 1


def quoted(text: str) -> str:
    """A text as YAML, whatever is in it."""
    return json.dumps(text)
