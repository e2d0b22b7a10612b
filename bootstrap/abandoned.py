"""Containers whose `run` was killed and could not remove them: found by the note that it left, and by their mark.

Only what was started from this home is looked for: what another one started may be somebody's server.
"""

from __future__ import annotations

from dataclasses import dataclass

from bootstrap import running
from bootstrap.running import Running
from bootstrap.state import Home


@dataclass(frozen=True)
class Abandoned:
    """A container that nothing looks after any more.

    Attributes:
        server: what `run` noted of it.
        up: whether it still runs; None: its engine cannot be asked.
        reason: why it cannot.
    """

    server: Running
    up: bool | None
    reason: str = ""


def find(home: Home, port: int | None = None) -> tuple[Abandoned, ...]:
    """Those that were published on that port, or all; with those that have ended since. Changes nothing."""
    notes = [it for it in running.abandoned(home, port) if it.container is not None]
    if not notes:
        return ()
    from images import container, engine
    from images.errors import ImageError

    try:
        with engine.connect() as connected:
            return tuple(
                Abandoned(note, (found := container.marked(connected, note.mark)) is not None and found.running)
                if note.engine == connected.address
                else Abandoned(note, None, f"it is in the engine at {note.engine}: set DOCKER_HOST")
                for note in notes
            )
    except ImageError as error:
        return tuple(Abandoned(note, None, str(error)) for note in notes)


def remove(home: Home, server: Running, *, at_once: bool) -> bool:
    """End the container as `run` would have, remove it and forget the note; whether there was one to remove.

    Raises:
        ImageError: the engine does not answer, or will not.
    """
    from images import container, engine

    with engine.connect() as connected:
        found = container.marked(connected, server.mark, server.drain)
        if found is not None:
            found.stop(at_once=at_once)
    running.forget(home, server)
    return found is not None
