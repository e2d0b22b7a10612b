import io
import json
import mimetypes
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from runtime.bounds import InvalidOption
from runtime.formats import DEFAULT_FORMAT, FORMATS, format_of
from runtime.models import model
from runtime.options import GenerationRequest, build_request
from runtime.problems import RuntimeProblem
from runtime.video import read_settings, write_video
from tests.conftest import read_only
from tests.loop_disk import loop_disk
from tests.runtime.conftest import PHOTO, ROOT, Frames

SPEC = model("demo")
SUFFIXES = [row.suffix for row in FORMATS.values()]
#: How far a colour may be off, on average, away from the edge, which chroma blurs.
TOLERANCE = {".mp4": 6.0, ".webm": 6.0, ".gif": 4.0, ".zip": 0.0}
PROBE = shutil.which("ffprobe")
needs_probe = pytest.mark.skipif(PROBE is None, reason="ffprobe is not on PATH")


def asked_for(fps: int = 12) -> GenerationRequest:
    prompt = '云 "quoted"\nline'
    return build_request("preview", model=SPEC, size="128x64", num_frames=6, fps=fps, seed=3, prompt=prompt)


REQUEST = asked_for()


@pytest.fixture(scope="module")
def frames() -> Frames:
    """Six frames of plain halves, each in other colours."""
    video = np.zeros((6, 64, 128, 3), np.uint8)
    for index, frame in enumerate(video):
        frame[:, :64] = (250 - 30 * index, 40, 40)
        frame[:, 64:] = (40, 40 + 30 * index, 200)
    return video


@pytest.fixture(scope="module")
def photo() -> Frames:
    """A real photo that moves: three frames, large enough for an encoder to share out among its threads."""
    with Image.open(PHOTO) as picture:
        still = np.asarray(picture.convert("RGB").resize((384, 256)))
    return np.stack([np.roll(still, shift, axis=1) for shift in (0, 4, 8)])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, frames: Frames) -> dict[str, Path]:
    """The same video in every format, by its suffix."""
    directory = tmp_path_factory.mktemp("video")
    paths = {suffix: directory / f"video{suffix}" for suffix in SUFFIXES}
    for path in paths.values():
        write_video(path, frames, SPEC, REQUEST)
    return paths


def decoded(path: Path) -> Frames:
    """The frames, read by a library that knows nothing of ours."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".png")]
            pictures = [Image.open(io.BytesIO(archive.read(name))) for name in sorted(names)]
            return np.stack([np.asarray(picture) for picture in pictures])
    if path.suffix == ".gif":
        return np.stack([np.asarray(picture.convert("RGB")) for picture in gif_frames(path)])
    with av.open(path) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def gif_frames(path: Path) -> Iterator[Image.Image]:
    with Image.open(path) as picture:
        for index in range(getattr(picture, "n_frames", 1)):
            picture.seek(index)
            yield picture


def probed(path: Path) -> dict[str, Any]:
    """What ffprobe says: of the container in `format`, of the only stream in `stream`."""
    assert PROBE
    command = [PROBE, "-v", "error", "-count_frames", "-show_format", "-show_streams", "-of", "json", str(path)]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    (stream,) = told["streams"]
    return {"format": told["format"], "stream": stream}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_frames_and_their_colours_come_back(suffix: str, written: dict[str, Path], frames: Frames) -> None:
    found = decoded(written[suffix])
    assert found.shape == frames.shape
    difference = np.abs(found.astype(int) - frames)
    for half in (difference[:, 8:-8, 8:56], difference[:, 8:-8, 72:-8]):
        assert half.mean(axis=(1, 2, 3)).max() <= TOLERANCE[suffix]


@needs_probe
@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "h264"), (".webm", "vp9")])
def test_a_video_is_what_browsers_play(suffix: str, codec: str, written: dict[str, Path]) -> None:
    told = probed(written[suffix])
    stream = told["stream"]
    assert (stream["codec_name"], stream["pix_fmt"]) == (codec, "yuv420p")
    assert (stream["width"], stream["height"]) == (128, 64)
    assert stream["color_range"] == "tv"
    assert {stream[f"color_{name}"] for name in ("space", "transfer", "primaries")} == {"bt709"}
    assert (stream["nb_read_frames"], stream["avg_frame_rate"]) == ("6", "12/1")
    assert float(told["format"]["duration"]) == pytest.approx(6 / 12, abs=0.001)


def test_the_index_of_an_mp4_is_in_front(written: dict[str, Path]) -> None:
    content = written[".mp4"].read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


@pytest.mark.parametrize("fps", [8, 12, 24, 30, 50])
def test_every_frame_of_a_gif_begins_at_its_time_to_the_nearest_hundredth(
    fps: int, tmp_path: Path, frames: Frames
) -> None:
    path = tmp_path / "video.gif"
    write_video(path, frames, SPEC, asked_for(fps))
    delays = [picture.info["duration"] for picture in gif_frames(path)]
    assert min(delays) >= 20  # browsers take less for 100
    ends = np.cumsum(delays) / 1000
    assert np.abs(ends - np.arange(1, 7) / fps).max() <= 0.005 + 1e-9


def test_a_gif_of_more_than_fifty_frames_a_second_has_them_all_and_plays_at_fifty(
    tmp_path: Path, frames: Frames
) -> None:
    path = tmp_path / "video.gif"
    write_video(path, frames, SPEC, asked_for(60))
    assert [picture.info["duration"] for picture in gif_frames(path)] == [20] * 6


def test_a_gif_loops_for_ever_and_mixes_the_colours_that_it_lacks_from_those_that_it_has(
    tmp_path: Path, photo: Frames
) -> None:
    path = tmp_path / "video.gif"
    write_video(path, photo, SPEC, REQUEST)
    with Image.open(path) as picture:
        assert picture.info["loop"] == 0
        colours = np.reshape(picture.getpalette() or [], (-1, 3))
        mixed = np.asarray(picture.convert("RGB"))
    distances = ((photo[0].reshape(-1, 1, 3).astype(np.int32) - colours) ** 2).sum(-1)
    nearest = colours[distances.argmin(-1)].reshape(photo[0].shape)
    assert off(mixed, photo[0]) < 0.85 * off(nearest, photo[0])


def off(shown: npt.NDArray[Any], meant: Frames) -> float:
    """How far the colours are off where a neighbourhood of 4 x 4 pixels is seen as one."""
    seen, wanted = (np.asarray(Image.fromarray(one.astype(np.uint8)).reduce(4)).astype(int) for one in (shown, meant))
    return float(np.abs(seen - wanted).mean())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_one_frame_is_a_video_too(suffix: str, tmp_path: Path, frames: Frames) -> None:
    path = tmp_path / f"video{suffix}"
    write_video(path, frames[:1], SPEC, REQUEST)
    assert decoded(path).shape == (1, 64, 128, 3)
    assert read_settings(path)["seed"] == 3
    if PROBE and suffix != ".zip":
        assert float(probed(path)["format"]["duration"]) == pytest.approx(1 / 12, abs=0.005)


@pytest.mark.parametrize("row", FORMATS.values(), ids=FORMATS)
def test_what_made_it_is_written_in_it(row: Any, written: dict[str, Path]) -> None:
    settings = read_settings(written[row.suffix])
    assert (settings["model"], settings["model_digest"]) == ("demo", SPEC.digest)
    assert settings["made_by"].startswith("i2v-setup ")
    assert (settings["seed"], settings["prompt"], settings["fps"]) == (3, REQUEST.prompt, 12)
    assert settings["output_format"] == row.name


@needs_probe
@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif"])
def test_ordinary_tools_show_what_made_a_video(suffix: str, written: dict[str, Path]) -> None:
    tags = {name.lower(): text for name, text in probed(written[suffix])["format"]["tags"].items()}
    assert json.loads(tags["comment"]) == read_settings(written[suffix])
    assert suffix == ".gif" or tags["title"] == REQUEST.prompt


def test_a_zip_holds_the_frames_in_order_and_the_settings_for_other_programs(
    written: dict[str, Path], tmp_path: Path
) -> None:
    with zipfile.ZipFile(written[".zip"]) as archive:
        names = archive.namelist()
        assert names == [*(f"frame-{number:04}.png" for number in range(1, 7)), "settings.json"]
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        settings = json.loads(archive.read("settings.json"))
        archive.extract("frame-0002.png", tmp_path)
    assert settings == read_settings(written[".zip"])
    with Image.open(tmp_path / "frame-0002.png") as picture:
        assert (picture.info["Title"], json.loads(picture.info["Comment"])) == (REQUEST.prompt, settings)
    assert read_settings(tmp_path / "frame-0002.png") == settings


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_video_is_the_same_bytes_whatever_its_name_the_time_and_the_cores(
    suffix: str, photo: Frames, tmp_path: Path
) -> None:
    """So nothing of the machine, of its clock and of its files can be in it."""
    code = (
        "import os, sys, pathlib, numpy, runtime.video, tests.runtime.test_video as test\n"
        "hasattr(os, 'sched_setaffinity') and os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "frames = numpy.load(sys.argv[1])\n"
        "runtime.video.write_video(pathlib.Path(sys.argv[2]), frames, test.SPEC, test.REQUEST)"
    )
    np.save(tmp_path / "frames.npy", photo)
    one, other = tmp_path / f"one{suffix}", tmp_path / f"another name{suffix}"
    write_video(one, photo, SPEC, REQUEST)
    environment = {**os.environ, "TZ": "Asia/Shanghai"}
    command = [sys.executable, "-c", code, str(tmp_path / "frames.npy"), str(other)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    assert other.read_bytes() == one.read_bytes()


def test_videos_that_are_written_at_the_same_time_are_no_other_than_alone(
    written: dict[str, Path], frames: Frames, tmp_path: Path
) -> None:
    paths = [tmp_path / f"{number}{suffix}" for number in range(3) for suffix in SUFFIXES]
    with ThreadPoolExecutor(len(paths)) as threads:
        list(threads.map(lambda path: write_video(path, frames, SPEC, REQUEST), paths))
    assert all(path.read_bytes() == written[path.suffix].read_bytes() for path in paths)


def test_a_file_of_another_origin_has_no_settings(tmp_path: Path, frames: Frames) -> None:
    video, gif, png, archive, text = (tmp_path / f"other.{suffix}" for suffix in ("mp4", "gif", "png", "zip", "txt"))
    with av.open(video, "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height = 128, 64
        container.metadata["comment"] = "made by hand"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(frames[0], format="rgb24")))
        container.mux(stream.encode(None))
    Image.fromarray(frames[0]).save(gif, comment=b"[1, 2]")
    Image.fromarray(frames[0]).save(png)
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("readme.txt", "hello")
    text.write_text("PK no video at all")
    assert [read_settings(path) for path in (video, gif, png, archive, text)] == [{}] * 5


def test_settings_of_no_file_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_settings(tmp_path / "video.mp4")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_failure_leaves_no_file(suffix: str, tmp_path: Path, frames: Frames) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever the library says to numbers that are no colours
        write_video(tmp_path / f"odd{suffix}", frames.astype(np.float64), SPEC, REQUEST)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_place_that_cannot_be_written_is_told_with_what_to_do(suffix: str, tmp_path: Path, frames: Frames) -> None:
    with read_only(tmp_path), pytest.raises(RuntimeProblem, match="cannot be written") as caught:
        write_video(tmp_path / f"video{suffix}", frames, SPEC, REQUEST)
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_and_what_was_there_stays(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (4, 128, 128, 3), np.uint8)
    with loop_disk(tmp_path / "image", tmp_path / "mount", 4) as disk:
        directory = disk / "videos"
        directory.mkdir()
        for suffix in SUFFIXES:
            (directory / f"video{suffix}").write_bytes(b"the one before")
        fill(disk, leave=16 * 1024)
        for suffix in SUFFIXES:
            path = directory / f"video{suffix}"
            with pytest.raises(RuntimeProblem, match="No space left") as caught:
                write_video(path, noise, SPEC, REQUEST)
            assert caught.value.hint
            assert path.read_bytes() == b"the one before"
        assert sorted(path.name for path in directory.iterdir()) == sorted(f"video{suffix}" for suffix in SUFFIXES)


def fill(disk: Path, leave: int) -> None:
    """Takes all the room of a disk but so many bytes."""
    with (disk / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            file.truncate(file.tell() - leave)
            os.fsync(file.fileno())


def test_a_suffix_of_no_format_is_told_with_those_that_there_are(tmp_path: Path, frames: Frames) -> None:
    with pytest.raises(InvalidOption) as caught:
        write_video(tmp_path / "video.avi", frames, SPEC, REQUEST)
    assert all(suffix in str(caught.value) for suffix in SUFFIXES)
    assert list(tmp_path.iterdir()) == []


def test_formats_are_told_apart_by_name_and_suffix_and_have_the_media_type_that_is_registered() -> None:
    assert FORMATS[DEFAULT_FORMAT].suffix == ".mp4"
    for name, row in FORMATS.items():
        assert name == row.name
        assert format_of(Path(f"a.b{row.suffix.upper()}")) is row
        assert mimetypes.guess_type(f"video{row.suffix}")[0] == row.media_type


def test_to_choose_a_format_needs_the_standard_library_only() -> None:
    code = "import sys; before = set(sys.modules); import runtime.formats; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    tops = {name.split(".")[0] for name in done.stdout.split()}
    assert tops - {"runtime"} <= set(sys.stdlib_module_names)
