"""What a container of the server may do and use: the same whether we start it, or Compose or Kubernetes does."""

from __future__ import annotations

#: That the server listens on, inside.
PORT = 8000
#: Its user and group, as the Dockerfile has it.
USER = 10001
#: Where the image keeps jobs and videos, and has its model.
DATA, MODEL = "/data", "/model"
#: The address of this machine alone: published there, the server does without an API key.
LOOPBACK = "127.0.0.1"
#: Bytes of /tmp, and of the memory through which torch passes tensors between processes.
TMP_BYTES, SHM_BYTES = 1 << 30, 1 << 30
#: Processes and threads that there may be.
PROCESSES = 4096
#: Seconds that it gets to end, beyond a drain.
GRACE_SECONDS = 15
#: How much of its log is kept.
LOG_SIZE, LOG_FILES = "10m", "3"
