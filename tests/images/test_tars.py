import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from images import tars

_LONG = "/".join(["directory" * 5] * 6)


@pytest.mark.parametrize(
    "path", ["short", "a/b.txt", f"{'d' * 90}/{'n' * 90}", f"{'d' * 160}/n", "n" * 101, f"{_LONG}/file", "模型/权重"]
)
def test_any_path_is_read_by_others(path: str, tmp_path: Path) -> None:
    archive = tars.directory("top") + tars.file(path, 3) + b"abc" + tars.padding(3) + tars.END
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as read:
        directory, member = read.getmembers()
        assert (directory.name, directory.mode, directory.isdir()) == ("top", 0o755, True)
        assert (member.name, member.mode, member.size, member.isreg()) == (path, 0o644, 3, True)
        assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
    subprocess.run(["tar", "--extract", "--directory", tmp_path], input=archive, check=True, capture_output=True)
    assert (tmp_path / path).read_bytes() == b"abc"


@pytest.mark.parametrize("size", [8**11 - 1, 8**11, 1 << 40])
def test_any_size_is_read_by_others(size: int) -> None:
    header = tars.file("model/large", size)
    assert (len(header) == 512) == (size < 8**11)
    assert tarfile.TarFile(fileobj=io.BytesIO(header)).firstmember.size == size  # type: ignore[attr-defined]


def test_the_bytes_of_an_entry_are_these_for_ever() -> None:
    # Layers are named by their bytes: a change here makes all that were pushed so far useless.
    header = tars.file("model/unet/weights.safetensors", 700)
    assert header[:30] == b"model/unet/weights.safetensors"
    assert header[100:157] == b"0000644\x000000000\x000000000\x0000000001274\x0000000000000\x00015214\x00 0"
    assert header[257:265] == b"ustar\x0000"
    assert header[329:345] == b"0000000\x000000000\x00"


@pytest.mark.parametrize("target", ["python3", "../" * 40 + "bin/python3", "t" * 100, "t" * 101, "模型"])
def test_links_and_rights_are_read_by_others(target: str) -> None:
    rights = tars.Rights(0o2750, 10001, 20002)
    entries = (
        tars.directory("app", rights)
        + tars.file("app/run", 3, rights)
        + b"abc"
        + tars.padding(3)
        + tars.symbolic_link("app/link", target, rights)
        + tars.hard_link("app/again", "app/run", rights)
    )
    with tarfile.open(fileobj=io.BytesIO(entries + tars.END), mode="r:") as read:
        directory, file, link, again = read.getmembers()
        for member in (directory, file, link, again):
            assert (member.mode, member.uid, member.gid, member.mtime) == (0o2750, 10001, 20002, 0)
        assert (directory.isdir(), file.isreg(), link.issym(), again.islnk()) == (True,) * 4
        assert (link.linkname, again.linkname) == (target, "app/run")
