"""Keeps the libraries that we import offline and silent, in every process that imports them.

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


def hush() -> None:
    """No network, no progress bars and no warnings from third parties in this process."""
    os.environ.update(_ENVIRONMENT)
    warnings.simplefilter("ignore")
    from tqdm import tqdm  # type: ignore[import-untyped]

    # Its own lock is a semaphore of the system's, which a killed worker would leave behind.
    tqdm.set_lock(threading.RLock())
