"""Keeps the libraries that we import offline, silent and considerate, in every process that imports them.

Call `hush` before torch, diffusers or transformers is imported: they read these variables at import.
"""

import os
import threading
import warnings

_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",  # weights are fetched and verified elsewhere; here nothing goes to the network
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "DIFFUSERS_VERBOSITY": "error",
    "TRANSFORMERS_VERBOSITY": "error",
    "TQDM_DISABLE": "1",
}

#: Threads that wait give up their core. Spinning, two generations at once on two cores took ten times as long each
#: (150 s instead of 16 s for ten steps of the demo model). Alone, the smallest shapes pay for it (1.7 s, not 1.0 s).
_WAITING = ("OMP_WAIT_POLICY", "PASSIVE")


def hush() -> None:
    """No network, no progress bars and no warnings from third parties in this process."""
    os.environ.update(_ENVIRONMENT)
    os.environ.setdefault(*_WAITING)
    warnings.simplefilter("ignore")
    from tqdm import tqdm  # type: ignore[import-untyped]

    # Its own lock is a semaphore of the system's, which a killed worker would leave behind.
    tqdm.set_lock(threading.RLock())
