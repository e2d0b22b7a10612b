"""What can go wrong with an image or its container, said so that the reader can mend it.

    ImageError              a build or a container failed, or cannot start
      EngineUnavailable     no Docker engine answers
      RegistryError         a registry does not answer, or not what was asked for (images.registry_errors)

Nothing here knows exit codes or terminals. No message carries the password of a URL.
"""

from __future__ import annotations

from mirrors.urls import redact


class ImageError(Exception):
    """What happened and why; `hint` says what to do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(redact(message))
        self.hint = redact(hint)


class EngineUnavailable(ImageError):
    """No Docker engine answers, or it refuses us."""
