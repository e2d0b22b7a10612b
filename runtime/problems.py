"""The one error family of the runtime: what happened and why, and what a person can do about it.

    RuntimeProblem
    +-- UnknownModel      models.py    no such row
    +-- ModelMissing      models.py    its files are not where they should be
    +-- InvalidOption     bounds.py    a setting out of bounds
    +-- PictureRefused    uploads.py   not a picture that we read
    +-- EngineProblem     pipeline.py  the model cannot be loaded, or what it made is not a video
    +-- WorkerDied        worker.py    the worker process ended in the middle of a call
    +-- QueueFull         jobs.py      no room for another job now

Knows nothing of where an error ends up: a JSON line, an HTTP answer or the command line.
"""


class RuntimeProblem(Exception):
    """What happened and why (the message), and what to do about it (`hint`, may be empty)."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
