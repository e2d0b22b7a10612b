"""A server's state as plain text to paste into a bug report: no secrets, no prompts, no names of files of the user's.

Made of plain values, so that the server, which knows them, and the tool, which reads what the server left, both can
say it in the same words. Of a job only what `JobFacts` has gets in: its settings in numbers, its times, its error.
Standard library alone.
"""

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from runtime import __version__
from runtime.job import Job
from runtime.logs import readable, redact
from runtime.timing import Phase

PACKAGES = ("torch", "diffusers")
#: Of jobs and of errors that are told.
MOST = 5
_ID_LENGTH = 14  # of an id: enough to find it in the log, too little to fetch the video with


@dataclass(frozen=True)
class JobFacts:
    """What may be told of a job."""

    id: str
    status: str
    attempts: int
    shape: str
    seconds: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class Facts:
    """What there is to tell; what is not known is left out.

    Attributes:
        versions: By name, ours first; see `versions`.
        state: In a word or two: "ready", "starting", "not running".
        device: What the model runs on.
        model: Its id.
        precision: What it is computed in.
        residency: Where its weights wait, in words.
        settings: How the server was set up. Never a key.
        phases: Of the start.
        jobs: The newest first.
        errors: Lines of the log, the newest last.
    """

    versions: Mapping[str, str]
    state: str
    device: str | None = None
    model: str | None = None
    precision: str | None = None
    residency: str | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    phases: Sequence[Phase] = ()
    jobs: Sequence[JobFacts] = ()
    errors: Sequence[str] = ()


def text(facts: Facts) -> str:
    """The summary."""
    told = redact("\n".join(_lines(facts))).replace(str(Path.home()), "~")
    return told.encode(errors="replace").decode() + "\n"


def versions() -> dict[str, str]:
    """Of us, of Python, and of those packages of this environment that matter; nothing is imported for it."""
    found = {"i2v-setup": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def of_job(job: Job) -> JobFacts:
    """What may be told of a job: neither its prompt nor its seed."""
    wanted = job.request
    shape = f"{wanted.width}x{wanted.height}, {wanted.num_frames} frames, {wanted.num_inference_steps} steps"
    error = f"{job.error_code}: {job.error_message or ''}" if job.error_code else None
    return JobFacts(job.id, job.status, job.attempts, f"{shape}, {wanted.output_format}", job.seconds, error)


def _lines(facts: Facts) -> Iterator[str]:
    yield "i2v-setup summary"
    yield f"  versions    {', '.join(f'{name} {number}' for name, number in facts.versions.items())}"
    yield f"  system      {platform.platform()}"
    yield f"  state       {facts.state}"
    for name in ("device", "model", "precision", "residency"):
        if value := getattr(facts, name):
            yield f"  {name:11} {value}"
    if facts.settings:
        yield f"  settings    {', '.join(f'{name}={value}' for name, value in facts.settings.items())}"
    yield from _part("phases", [f"{phase.name}: {phase.seconds:.2f} s" for phase in facts.phases])
    yield from _part("last jobs", [_job(job) for job in facts.jobs[:MOST]])
    yield from _part("last errors", [readable(line) for line in facts.errors[-MOST:]])


def _part(title: str, lines: Sequence[str]) -> Iterator[str]:
    yield f"  {title}{'' if lines else ': none'}"
    for line in lines:
        yield from (f"    {part}" for part in line.splitlines())


def _job(job: JobFacts) -> str:
    took = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in job.seconds.items())
    tried = f", attempt {job.attempts}" if job.attempts > 1 else ""
    return " | ".join(filter(None, (f"{job.id[:_ID_LENGTH]}… {job.status}{tried}", job.shape, took, job.error)))
