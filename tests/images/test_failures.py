import pytest

from images.failures import explain, full_disk
from images.progress import Failure

_ENDED = 'process "/bin/sh -c set -eu" did not complete successfully: exit code: 1'


@pytest.mark.parametrize(
    ("step", "lines", "message", "hint"),
    [
        (
            "[internal] load metadata for docker.io/library/nosuch:1",
            ("pull access denied, repository does not exist or may require authorization",),
            "base image cannot be had: pull access denied",
            "registry mirror",
        ),
        (
            "[packages 1/1] RUN",
            ("OSError: [Errno 28] No space left on device", _ENDED),
            "no space left for the image: OSError",
            "docker system df",
        ),
        ("[packages 1/1] RUN", ("error: Hash mismatch for `a==1`", _ENDED), "not the one that the lock", "clean"),
        (
            "[packages 1/1] RUN",
            ("ERROR: No matching distribution found for uv==1", _ENDED),
            "wheel that was not handed over",
            "base image",
        ),
        ("[packages 1/1] RUN", ("/bin/sh: 1: python3: not found", _ENDED), "has no Python", "python3"),
        ("", ('ERROR: invalid tag "A B": repository name must be lowercase',), "cannot be named", "NAME:TAG"),
        (
            "[packages 1/1] RUN",
            ("error: Failed to download `a==1`", "cause: Failed to extract archive: a-1-py3-none-any.whl", _ENDED),
            "not the one that the lock names, and was thrown away: cause: Failed to extract",
            "clean",
        ),
        (
            "[packages 1/1] RUN",
            ("error: unlike any before", _ENDED.replace("set -eu", "# PyPI has no CPU wheel")),
            "the build failed at [packages 1/1] RUN: error: unlike any before",
            "above",
        ),
        ("[app 2/2] RUN", (_ENDED.replace("code: 1", "code: 137"),), "killed", "memory"),
        ("", ("ERROR: Cannot connect to the Docker daemon at unix:///x",), "stopped answering", "docker info"),
        ("[app 1/2] COPY x", ('"/x": not found',), 'failed at [app 1/2] COPY x: "/x": not found', "above"),
        ("", (), "it said nothing", "above"),
    ],
)
def test_a_known_cause_gets_its_sentence_and_hint(step: str, lines: tuple[str, ...], message: str, hint: str) -> None:
    error = explain(Failure(step, lines))
    assert message in str(error)
    assert hint in error.hint
    assert "\n" not in str(error)


def test_only_a_full_disk_is_called_one() -> None:
    error = full_disk("write /var/lib/docker/tmp/GetImageBlob1: no space left on device")
    assert error
    assert "no space left for the image: write" in str(error)
    assert "docker system df" in error.hint
    assert full_disk("connection refused") is None
