from pathlib import Path

import av
import numpy as np
import pytest

from runtime.models import model
from runtime.options import build_request
from runtime.problems import RuntimeProblem
from runtime.video import read_settings, write_mp4
from tests.conftest import read_only
from tests.runtime.conftest import Frames

REQUEST = build_request(
    "preview", model=model("demo"), size="128x64", num_frames=6, fps=12, seed=3, prompt='云 "quoted"\nline'
)


@pytest.fixture(scope="module")
def frames() -> Frames:
    """Six frames of plain halves, each in other colours."""
    video = np.zeros((6, 64, 128, 3), np.uint8)
    for index, frame in enumerate(video):
        frame[:, :64] = (250 - 30 * index, 40, 40)
        frame[:, 64:] = (40, 40 + 30 * index, 200)
    return video


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, frames: Frames) -> Path:
    path = tmp_path_factory.mktemp("video") / "video.mp4"
    write_mp4(path, frames, model("demo"), REQUEST)
    return path


def test_it_is_what_browsers_play(path: Path) -> None:
    with av.open(path) as container:
        (stream,) = container.streams
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height, stream.frames, stream.average_rate) == (128, 64, 6, 12)
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_the_colours_come_back(path: Path, frames: Frames) -> None:
    with av.open(path) as container:
        decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert decoded.shape == frames.shape
    difference = np.abs(decoded.astype(int) - frames)[:, 8:-8, 8:56]  # away from the edge, which chroma blurs
    assert difference.mean() < 6


def test_what_made_it_is_written_in_it(path: Path) -> None:
    settings = read_settings(path)
    assert (settings["model"], settings["model_digest"]) == ("demo", model("demo").digest)
    assert (settings["seed"], settings["prompt"], settings["fps"]) == (3, REQUEST.prompt, 12)


def test_a_video_of_another_origin_has_no_settings(tmp_path: Path, frames: Frames) -> None:
    path = tmp_path / "other.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height = 128, 64
        container.metadata["comment"] = "made by hand"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(frames[0], format="rgb24")))
        container.mux(stream.encode(None))
    assert read_settings(path) == {}


def test_a_failure_leaves_no_file(tmp_path: Path, frames: Frames) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever the encoder says to an odd height
        write_mp4(tmp_path / "odd.mp4", frames[:, :63], model("demo"), REQUEST)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_told_with_what_to_do(tmp_path: Path, frames: Frames) -> None:
    with read_only(tmp_path), pytest.raises(RuntimeProblem, match="cannot be written") as caught:
        write_mp4(tmp_path / "video.mp4", frames, model("demo"), REQUEST)
    assert caught.value.hint
