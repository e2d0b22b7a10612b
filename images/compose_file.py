"""The server as a Compose file: on one machine, for that machine alone, until others are let in.

Knows the Compose specification, and that Compose replaces `$NAME` in it. Asks no engine.
"""

from __future__ import annotations

from images import sandbox
from images.deployable import DRAIN, LOADING_SECONDS, PATIENCE, Deployable, quoted

_READY = (
    "from urllib.request import *; "
    f"build_opener(ProxyHandler({{}})).open('http://127.0.0.1:{sandbox.PORT}/ready', timeout=4)"
)


def text(deployable: Deployable) -> str:
    """The file."""
    it = deployable
    return f"""\
#
#   docker compose up --detach --wait     returns when the model is loaded; then http://127.0.0.1:8000
#   docker compose logs --follow
#   docker compose down                   jobs and videos stay in the volume `data`
#
# I2V_PORT is the port on this machine, I2V_MEMORY the main memory that it may use.
# Changes of your own may stand here, or in a compose.override.yaml beside it.

name: {it.name}

services:
  server:
    image: {_literal(it.image)}{"" if it.pinned else "  # NAME@sha256:… keeps it from becoming another image"}
    # Only this machine reaches it, so it needs no API key. To let others in, behind something that speaks TLS:
    #   1. write the key into ./secrets/api-key: mkdir -m 700 secrets; then chmod 644 the file, which the server's
    #      user {sandbox.USER} reads, while nobody else gets into the directory
    #   2. take "# " off the lines that end in "key"
    #   3. take "{sandbox.LOOPBACK}:" out of `ports`, and "--published-on", "{sandbox.LOOPBACK}" out of `command`
    # environment: {{I2V_API_KEY_FILE: /run/secrets/api-key}}  # key
    # secrets: [api-key]  # key
    ports: ["{sandbox.LOOPBACK}:${{I2V_PORT:-8000}}:{sandbox.PORT}"]
    command: ["--published-on", "{sandbox.LOOPBACK}", "--drain", "{DRAIN}"]
    stop_grace_period: {PATIENCE}s  # more than --drain: the job that is made is finished first
    restart: unless-stopped
    healthcheck:  # `--wait` and depends_on wait for the model with it; the image's own asks whether the server is there
      test: ["CMD", "python", "-c", {_literal(_READY)}]
      interval: 10s
      timeout: 5s
      retries: 3
      start_period: {LOADING_SECONDS}s
{_gpu(it)}\
    volumes:
      - {{type: volume, source: data, target: {sandbox.DATA}}}
{_model(it)}\
    user: "{sandbox.USER}:{sandbox.USER}"
    read_only: true
    tmpfs: ["/tmp:rw,nosuid,nodev,size={sandbox.TMP_BYTES},mode=1777"]
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    pids_limit: {sandbox.PROCESSES}
    shm_size: {sandbox.SHM_BYTES}  # torch passes tensors between processes through it
    # Requests for videos are taken by what fits. {it.memory_reason}
    mem_limit: ${{I2V_MEMORY:-{it.memory_gib}g}}
    memswap_limit: ${{I2V_MEMORY:-{it.memory_gib}g}}
    logging: {{driver: json-file, options: {{max-size: {sandbox.LOG_SIZE}, max-file: "{sandbox.LOG_FILES}"}}}}

volumes:
  data:

# secrets: {{api-key: {{file: ./secrets/api-key}}}}  # key
"""


def _gpu(it: Deployable) -> str:
    if not it.gpu:
        return ""
    return """\
    deploy:  # the NVIDIA Container Toolkit has to be there; device_ids: ["1"] instead of count names a GPU
      resources:
        reservations:
          devices: [{driver: nvidia, count: 1, capabilities: [gpu]}]
"""


def _model(it: Deployable) -> str:
    if it.weights_image is not None:
        return f"""\
      # The weights are an image of their own. It needs Docker 28 and Compose 2.35, or newer.
      - type: image
        source: {_literal(it.weights_image)}
        target: {sandbox.MODEL}
        image: {{subpath: model}}
"""
    if it.model_dir is not None:
        return f"""\
      # The model's files, as `i2v-setup install --model {it.model.id}` brings them. User {sandbox.USER} has to be able
      # to read them.
      - type: bind
        source: {_literal(str(it.model_dir))}
        target: {sandbox.MODEL}
        read_only: true
        bind: {{create_host_path: false}}
"""
    return ""


def _literal(value: str) -> str:
    """A text that Compose takes as it is."""
    return quoted(value.replace("$", "$$"))
