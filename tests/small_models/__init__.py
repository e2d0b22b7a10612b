"""Small models with random weights, one for each family, in the layout in which the real ones are published.

    python -m tests.small_models i2vgen-xl runtime/demo      writes the bundled demo model and its manifest

No network: the tokenizers' vocabularies are made here. To add a family, write what builds it and add its row.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from runtime.quiet import hush

hush()

import torch  # noqa: E402 - the libraries read their settings at import

from tests.small_models import dits, unets  # noqa: E402

#: What writes a model of each family into a directory.
WRITERS: Mapping[str, Callable[[Path], None]] = {
    "i2vgen-xl": unets.i2vgen_xl,
    "svd": unets.svd,
    "animatediff": unets.animatediff,
    "wan": dits.wan,
    "ltx": dits.ltx,
    "cogvideox": dits.cogvideox,
}


def save(family: str, directory: Path, seed: int = 0) -> None:
    """Writes the small model of a family into `directory`, which it replaces, with its manifest."""
    shutil.rmtree(directory, ignore_errors=True)
    torch.manual_seed(seed)
    WRITERS[family](directory)
    for weights in directory.rglob("*.safetensors"):
        weights.chmod(0o644)  # written for the owner alone
    write_manifest(directory)


def write_manifest(directory: Path) -> None:
    """Lists every file of `directory` with its size and sha256 in manifest.json beside them."""
    manifest = directory / "manifest.json"
    manifest.unlink(missing_ok=True)
    rows = [
        {
            "path": path.relative_to(directory).as_posix(),
            "size": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    ]
    manifest.write_text(json.dumps({"files": rows}, indent=2) + "\n", encoding="utf-8")
