"""What the worker's forkserver imports once, so that a new worker starts in hundredths of a second.

Only imports: a process that has touched CUDA cannot be forked. A failure is kept, to be told by the worker,
because the forkserver has nobody to tell.
"""

import signal
import time

from runtime.families import FAMILIES
from runtime.quiet import hush

# Ctrl-C and systemd signal a whole group of processes. These here end when the server ends, and not before it:
# what is under way is then put back into the queue in good order.
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)

FAILURE: str | None = None
try:
    hush()
    import diffusers

    import runtime.pipeline
    import runtime.uploads
    import runtime.video  # noqa: F401

    for family in FAMILIES.values():
        getattr(diffusers, family.pipeline)  # imported when it is asked for
except Exception as error:  # noqa: BLE001 - a broken library raises what it likes
    FAILURE = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"

#: The monotonic time, the same clock in all processes of a machine, at which everything was imported.
IMPORTED = time.monotonic()
