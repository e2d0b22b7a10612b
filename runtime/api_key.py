"""Where the server's API key comes from: the environment, or a file that it names, as container secrets are given."""

import os
from pathlib import Path

from runtime.problems import RuntimeProblem

VARIABLE = "I2V_API_KEY"
_FILE_VARIABLE = "I2V_API_KEY_FILE"


def take() -> str:
    """The key, or nothing. It is taken out of the environment: the worker has no need of it.

    Raises:
        RuntimeProblem: the file is to hold it, and does not.
    """
    key, path = os.environ.pop(VARIABLE, ""), os.environ.pop(_FILE_VARIABLE, "")
    if key or not path:
        return key
    try:
        key = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        hint = f"see that user {os.getuid()} may read it"
        raise RuntimeProblem(f"the API key cannot be read from {path}: {reason}", hint) from None
    if not key:
        raise RuntimeProblem(f"there is no API key in {path}", "write one into it")
    return key
