import io
import json
import tarfile
from collections import Counter
from collections.abc import Collection

import pytest

from images import load_archive
from images.errors import ImageError
from images.oci import Image
from tests.images.layers import Broken, content, image, layer, with_blob


def _read(of: Image, without: Collection[str] = ()) -> tuple[dict[str, bytes], Counter[str]]:
    sent: Counter[str] = Counter()
    stream = load_archive.stream(of, "docker.io/a/b:c", without, lambda digest, size: sent.update({digest: size}))
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
        files = {entry.name: tar.extractfile(entry) for entry in tar}
        return {name: file.read() for name, file in files.items() if file}, sent


def test_the_archive_is_an_oci_layout_with_every_blob() -> None:
    packed = image([layer("a", 100_000), layer("b")])
    files, sent = _read(packed)
    (named,) = json.loads(files["index.json"])["manifests"]
    assert named["digest"] == packed.manifest.descriptor.digest
    assert named["annotations"]["io.containerd.image.name"] == "docker.io/a/b:c"
    for blob in (packed.manifest, *packed.blobs):
        assert files[f"blobs/{blob.descriptor.digest.replace(':', '/')}"] == b"".join(blob.read())
        assert sent[blob.descriptor.digest] == blob.descriptor.size


def test_the_archive_is_dockers_own_format_too() -> None:
    packed = image([layer("a"), layer("b")])
    files, _ = _read(packed)
    (described,) = json.loads(files["manifest.json"])
    assert described["RepoTags"] == ["docker.io/a/b:c"]
    assert files[described["Config"]] == packed.config.content
    assert [files[path] for path in described["Layers"]] == [content(one) for one in packed.layers]


def test_what_is_left_out_is_named_and_not_sent() -> None:
    packed = image([layer("a"), layer("b")])
    left_out = packed.layers[0].descriptor.digest
    files, sent = _read(packed, {left_out})
    path = f"blobs/{left_out.replace(':', '/')}"
    assert path not in files
    assert path in json.loads(files["manifest.json"])[0]["Layers"]
    assert left_out not in sent


def test_a_blob_that_is_not_as_long_as_it_says_ends_the_archive() -> None:
    whole = layer("a", 100_000)
    with pytest.raises(ImageError, match="not as long as it was"):
        _read(image([with_blob(whole, Broken(whole.descriptor, content(whole)[:100]))]))
    with pytest.raises(ImageError, match="not as long as it was"):
        _read(image([with_blob(whole, Broken(whole.descriptor, content(whole) + b"more"))]))
