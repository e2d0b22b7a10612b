"""The files beside the job store: the pictures of unfinished jobs, and the videos.

A video's file carries its job and its attempt in its name, and so does what is left of one that was being written.
Knows nothing of the database.
"""

import contextlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from runtime.formats import FORMATS
from runtime.job import Job


class JobFiles:
    """The two folders below one directory."""

    def __init__(self, root: Path) -> None:
        """Makes them if need be; raises OSError if that cannot be done."""
        self._pictures, self._videos = root / "pictures", root / "videos"
        for folder in (root, self._pictures, self._videos):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def picture(self, job_id: str) -> Path:
        """Where the picture of an unfinished job lies."""
        return self._pictures / f"{job_id}.bmp"

    def video(self, job: Job) -> Path:
        """Where this attempt's video goes: each has its own, so that a late one overwrites nothing."""
        return self._videos / f"{job.id}.{job.lease}{FORMATS[job.request.output_format].suffix}"

    def write_picture(self, job_id: str, picture: bytes) -> None:
        """Writes it, and waits until it is on disk."""
        with self.picture(job_id).open("wb") as file:
            file.write(picture)
            file.flush()
            os.fsync(file.fileno())
        _sync_names(self._pictures)

    def settle_videos(self) -> None:
        """Waits until the names of all videos are on disk: who wrote them has seen to their contents alone."""
        _sync_names(self._videos)

    def drop_picture(self, job_id: str) -> None:
        """Removes the picture of a job that needs it no more."""
        self.picture(job_id).unlink(missing_ok=True)

    def drop_videos(self, job_ids: Collection[str], but: Job | None = None) -> None:
        """Removes the videos of these jobs, half-written ones too, except the one of the attempt `but`."""
        kept = (but.id, but.lease) if but else None
        for path, job_id, lease in _files_in(self._videos):
            if job_id in job_ids and (job_id, lease) != kept:
                path.unlink(missing_ok=True)

    def drop_attempt(self, job: Job) -> None:
        """Removes what this attempt wrote, half-written or whole."""
        for path, job_id, lease in _files_in(self._videos):
            if (job_id, lease) == (job.id, job.lease):
                path.unlink(missing_ok=True)

    def drop_all_but(self, pictures: Collection[str], videos: Collection[tuple[str, int]]) -> None:
        """Removes all pictures but those of these jobs, and all videos but the whole ones of these attempts."""
        for path, job_id, _lease in _files_in(self._pictures):
            if job_id not in pictures:
                path.unlink()
        for path, job_id, lease in _files_in(self._videos):
            if (job_id, lease) not in videos or path.name.startswith("."):
                path.unlink()

    def video_bytes(self) -> dict[str, int]:
        """How much room the videos of each job take."""
        found: dict[str, int] = {}
        for path, job_id, _lease in _files_in(self._videos):
            with contextlib.suppress(FileNotFoundError):  # a half-written one has become a whole one
                found[job_id] = found.get(job_id, 0) + path.stat().st_size
        return found


def _files_in(folder: Path) -> Iterator[tuple[Path, str, int]]:
    """Each file with the job and the lease in its name: `JOB.bmp`, `JOB.LEASE.mp4`, `.JOB.LEASE.mp4.123.part`."""
    with os.scandir(folder) as entries:
        paths = [Path(entry.path) for entry in entries if not entry.is_dir(follow_symlinks=False)]
    for path in paths:
        job_id, _, rest = path.name.lstrip(".").partition(".")
        lease = rest.partition(".")[0]
        yield path, job_id, int(lease) if lease.isdecimal() else 0


def _sync_names(folder: Path) -> None:
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
