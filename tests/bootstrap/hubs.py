"""Model hubs on 127.0.0.1: what the upstream's API says of a repository, its files, and models that come from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bootstrap.state import Home
from runtime.models import ModelSpec, model
from tests.mirrors.loopback import LoopbackMirror

REPO, REVISION = "org/model", "r1"
WEIGHTS = "unet/diffusion_pytorch_model.fp16.safetensors"
FILES: Mapping[str, bytes] = {"model_index.json": b"{}", WEIGHTS: b"weights" * 10_000}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def publish(
    server: LoopbackMirror, files: Mapping[str, bytes] = FILES, repo: str = REPO, revision: str = REVISION
) -> None:
    """Serve a repository as the upstream does: the tree API's list, and the files."""
    serve(server, files, repo, revision)
    rows = [_row(path, data) for path, data in files.items()]
    folders = {path.partition("/")[0] for path in files if "/" in path}
    rows += [{"type": "directory", "oid": "0" * 40, "size": 0, "path": name} for name in sorted(folders)]
    server.add(f"api/models/{repo}/tree/{revision}", json.dumps(rows).encode())


def serve(
    server: LoopbackMirror, files: Mapping[str, bytes] = FILES, repo: str = REPO, revision: str = REVISION
) -> None:
    """Serve the files alone, as a mirror."""
    for path, data in files.items():
        server.add(f"{repo}/resolve/{revision}/{path}", data)


def _row(path: str, data: bytes) -> dict[str, Any]:
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    if not path.endswith(".safetensors"):
        return {"type": "file", "oid": blob, "size": len(data), "path": path}
    lfs = {"oid": sha256(data), "size": len(data), "pointerSize": 135}
    return {"type": "file", "oid": "1" * 40, "size": len(data), "path": path, "lfs": lfs}


def use(here: Home, upstream: LoopbackMirror, *mirrors: LoopbackMirror) -> None:
    """Let these be the upstream hub and the mirrors, in place of the public ones."""
    ids = ("hf-mirror", "gitee", "third")
    rows = [f"  - {{id: upstream, kind: hub, url: '{upstream.base}/files', layout: huggingface, upstream: true}}"]
    rows += [
        f"  - {{id: {name}, kind: hub, url: '{server.base}/files', layout: huggingface}}"
        for name, server in zip(ids, mirrors, strict=False)
    ]
    here.user_mirrors.parent.mkdir(parents=True, exist_ok=True)
    here.user_mirrors.write_text("mirrors:\n" + "\n".join(rows) + "\n", encoding="utf-8")


def spec(
    directory: Path, files: Mapping[str, bytes] = FILES, *, open_: Iterable[str] = (), **changes: Any
) -> ModelSpec:
    """A model of these files; of those in `open_` the manifest says nothing but their names."""
    rows = [
        {"path": path} if path in open_ else {"path": path, "size": len(data), "sha256": sha256(data)}
        for path, data in files.items()
    ]
    return listed(directory, rows, **changes)


def listed(
    directory: Path, rows: Iterable[Mapping[str, Any]], common: Mapping[str, str] | None = None, **changes: Any
) -> ModelSpec:
    """A model with these rows, and what is common to them, in its manifest."""
    text = json.dumps({**(common or {}), "files": list(rows)})
    manifest = directory / f"manifest-{sha256(text.encode())[:8]}.json"  # each is read once
    manifest.write_text(text, encoding="utf-8")
    row = {"id": "published", "repo": REPO, "revision": REVISION, "manifest": str(manifest), "gated": None, **changes}
    return replace(model("demo"), **row)
