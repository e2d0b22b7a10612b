"""The one error family of the runtime: what happened and why, and what a person can do about it.

    RuntimeProblem
    +-- UnknownModel      models.py       no such row
    +-- ModelMissing      model_spec.py   its files are not where they should be
    +-- HashesUnknown     model_spec.py   nobody has said yet what its files are
    +-- InvalidOption     bounds.py       a setting out of bounds
    +-- PictureRefused    uploads.py      not a picture that we read
    +-- LoadProblem       loading.py      the model cannot be loaded
    +-- EngineProblem     pipeline.py     what it made is not a video
    |   +-- OutOfMemory                   the device had less memory than the call took
    +-- WorkerDied        worker.py       the worker process ended in the middle of something
    +-- QueueFull         jobs.py         no room for another job now
    +-- KeyReused         jobs.py         the idempotency key belongs to another request
    +-- DiskFull          jobs.py         the job cannot be kept

Knows nothing of where an error ends up: a JSON line, an HTTP answer or the command line.
"""


class RuntimeProblem(Exception):
    """What happened and why (the message), and what to do about it (`hint`, may be empty)."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def in_full(message: str, hint: str) -> str:
    """A problem in one line."""
    return f"{message} ({hint})" if hint else message
