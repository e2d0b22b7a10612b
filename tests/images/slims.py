"""Images without weights as this tool makes them, but small, and made without an engine."""

from __future__ import annotations

import os
from collections.abc import Mapping

from images.layers import weight_labels
from images.oci import Image, compose, digest_of
from images.spec import LOCK_DIGEST_LABEL, LOCK_LABEL, VERSION_LABEL, WEIGHTS_LABEL
from runtime import __version__
from runtime.models import ModelSpec
from tests.images.registries import tar_layer

_LOCK = b"some-package==1\n"


def slim_image(
    model: ModelSpec, *, megabytes: int = 1, architecture: str = "amd64", labels: Mapping[str, str | None] | None = None
) -> Image:
    """A base, packages and an application, all unlike any before; made for that model.

    Args:
        model: The model.
        megabytes: How large the packages are.
        architecture: What it is for.
        labels: Other labels; None: not that one.
    """
    layers = (
        tar_layer({"bin/python": os.urandom(1000)}),
        tar_layer({"opt/venv/packages": os.urandom(megabytes << 20)}),
        tar_layer({"app/runtime/locks/cpu.txt": _LOCK, "app/code.py": os.urandom(1000)}),
    )
    said = {
        **weight_labels(model, ()),
        WEIGHTS_LABEL: "mounted",
        VERSION_LABEL: __version__,
        LOCK_LABEL: "cpu",
        LOCK_DIGEST_LABEL: digest_of(_LOCK),
        **(labels or {}),
    }
    config = {
        "Entrypoint": ["/bin/python"],
        "Env": ["PATH=/opt/venv/bin", "I2V_MODEL_ID=another", "HOME=/data"],
        "Labels": {name: value for name, value in said.items() if value is not None},
    }
    return compose({"architecture": architecture, "os": "linux", "config": config}, layers)
