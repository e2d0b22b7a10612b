"""What an engine built, as layers that are the same everywhere: against the engine's own word of what is in it."""

import hashlib
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, cast

import pytest

from images import parts
from images.build import build
from images.engine import Engine
from images.errors import ImageError
from images.image_files import opened
from images.inputs import Recipe
from images.notes import Notes
from images.oci import Layer
from images.parts import Part, parts_of
from images.spec import PARTS_LABEL, Destination, ImageSpec
from images.untar import StreamSource

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

_File = tuple[object, ...]


def _quiet(_line: str) -> None:
    pass


def _files(pieces: Iterator[bytes]) -> dict[str, _File]:
    """All that a tar holds, but for times: kind, rights, target and bytes by path."""
    found: dict[str, _File] = {}
    with tarfile.open(fileobj=cast(IO[bytes], StreamSource(pieces)), mode="r|") as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isreg() else None
            digest = hashlib.sha256(content.read()).hexdigest() if content else ""
            rights = (member.mode & 0o7777, member.uid, member.gid)
            found[member.name.strip("/")] = (member.type, rights, member.linkname, digest)
    return found


def _exported(engine: Engine, tag: str) -> dict[str, _File]:
    container = engine.client.containers.create(tag)
    try:
        return _files(cast(Iterator[bytes], container.export()))
    finally:
        container.remove()


def test_what_is_pushed_holds_the_files_of_what_was_built(
    engine: Engine, spec: ImageSpec, small_recipe: Recipe, tmp_path: Path
) -> None:
    mounted = replace(spec, weights="mounted")
    build(mounted, _quiet, recipe=small_recipe)
    built = _exported(engine, spec.tag)
    engine.untag(spec.tag)
    archive = tmp_path / "image.tar"
    build(mounted, _quiet, destination=Destination(output=archive), recipe=small_recipe, scratch=tmp_path)
    engine.client.images.load(archive.read_bytes())
    loaded = _exported(engine, spec.tag)
    assert "app/runtime/models.py" in built
    assert "data" in built
    assert {path: loaded.get(path) for path in built} == built
    assert loaded.keys() == built.keys()


def test_the_same_wheels_become_the_same_image_on_two_machines(
    spec: ImageSpec, small_recipe: Recipe, engine: Engine, tmp_path: Path
) -> None:
    mounted = replace(spec, weights="mounted")
    found = []
    for name in ("one", "two"):
        # Another comment is another lock: what was built before is not taken from the cache.
        lock = small_recipe.lock("cpu")
        lock.write_text(f"# {name} {spec.tag}\n{lock.read_text().splitlines()[-1]}\n")
        (tmp_path / name).mkdir()
        done = build(
            mounted,
            _quiet,
            destination=Destination(output=tmp_path / f"{name}.tar"),
            recipe=small_recipe,
            scratch=tmp_path / name,
        )
        found.append({layer.about: layer.digest for layer in done.layers})
    assert found[0]["i2v-setup: environment"] == found[1]["i2v-setup: environment"]
    # The lock itself is in the application, and its digest in the list.
    differ = {about for about in found[0] if found[0][about] != found[1][about]}
    assert differ == {"i2v-setup: application", "i2v-setup: list"}


def test_a_part_is_read_again_only_when_it_may_have_changed(
    engine: Engine, spec: ImageSpec, small_recipe: Recipe, tmp_path: Path
) -> None:
    build(replace(spec, weights="mounted"), _quiet, recipe=small_recipe)

    def layers() -> tuple[tuple[Layer, ...], int]:
        read: list[int] = []
        notes, scratch = Notes(tmp_path / "notes.json"), tmp_path / f"{len(list(tmp_path.iterdir()))}"
        with parts.layers(engine, spec.tag, spec.base_image, notes, scratch, read.append) as found:
            return found, sum(read)

    first, read = layers()
    assert read > 10**7  # the base image's
    again, read = layers()
    assert read == 0
    assert again[-1].diff_id == first[-1].diff_id

    (small_recipe.context / "runtime" / "models.py").write_text("# changed\n")
    build(replace(spec, weights="mounted"), _quiet, recipe=small_recipe)
    changed, read = layers()
    assert 0 < read < 10**7
    differ = {new.made_by for new, old in zip(changed, first, strict=True) if new.diff_id != old.diff_id}
    assert differ == {"i2v-setup: application"}


def test_a_directory_that_is_not_there_is_named(engine: Engine, base_image: str) -> None:
    with (
        opened(engine, base_image) as read,
        pytest.raises(ImageError, match=f"the image {base_image} has no /none/such"),
    ):
        list(read("/none/such"))


def test_the_label_names_parts_and_their_directories() -> None:
    assert parts_of({PARTS_LABEL: "environment=/opt/venv,/data application=/app"}) == (
        Part("environment", ("/opt/venv", "/data")),
        Part("application", ("/app",)),
    )
    with pytest.raises(ImageError, match=PARTS_LABEL):
        parts_of({})
