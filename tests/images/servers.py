"""Images of a small server that stands in for the runtime's: made without a build, and started in a second."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

from images import layout
from images.engine import Engine
from images.oci import LAYER, Bytes, Descriptor, Image, Layer, compose, digest_of

#: Answers as a server that is ready, and ends if it can write where it should not.
SERVER = """
import json, os, signal, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        told = {'arguments': sys.argv[1:], 'gpu': os.environ.get('MADE_UP_GPU'), 'kept': open('/data/kept').read()}
        told |= {'ready': True, 'model': 'demo', 'phases': [{'name': 'server', 'started': 0, 'seconds': 1}]}
        self.send_response(200); self.end_headers(); self.wfile.write(json.dumps(told).encode())
    def log_message(self, *_): pass
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
try: open('/written', 'w').write('x')
except OSError: pass
else: sys.exit('error: it could write')
open('/data/kept', 'a').write('x'); open('/tmp/used', 'w').write('x')
HTTPServer(('0.0.0.0', 8000), Handler).serve_forever()
"""
#: Ends at once, with its reason.
DYING = "import sys; print('error: the model is damaged', file=sys.stderr); sys.exit(1)"

_PYTHON, _USER, _PORTS = ("/usr/bin/env", "python3", "-c"), "10001:10001", {"8000/tcp": dict[str, str]()}
_AS_THE_RUNTIMES = "ln -s python3 /usr/bin/python; install -d -o 10001 -g 10001 /data"


def put_into(engine: Engine, base_image: str, tag: str, program: str) -> str:
    """An image of the base image and a Python program, in the engine that has the base image."""
    made = engine.client.containers.create(base_image, ["sh", "-c", _AS_THE_RUNTIMES], user="0")
    try:
        made.start()
        made.wait()
        name, _, label = tag.partition(":")
        conf = {"Entrypoint": [*_PYTHON, program], "Cmd": [], "User": _USER, "ExposedPorts": _PORTS}
        made.commit(name, label, conf=conf)
    finally:
        made.remove()
    return tag


def serving(engine: Engine, base_image: str, program: str, directory: Path) -> Image:
    """An image of the base image that `engine` has, and a Python program that runs as nobody.

    Its blobs are kept in the directory.
    """
    base = layout.read_stream(engine.save(base_image), directory)
    config = json.loads(base.config.content)
    settings = {
        **config["config"],
        "Entrypoint": [*_PYTHON, program],
        "Cmd": None,
        "ExposedPorts": _PORTS,
        "User": _USER,
        "Volumes": {"/data": {}},
    }
    return compose({**config, "config": settings}, (*base.layers, _data_directory()))


def _data_directory() -> Layer:
    """A layer with /data, which belongs to the server's user."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("data")
        entry.type, entry.mode, entry.uid, entry.gid = tarfile.DIRTYPE, 0o755, 10001, 10001
        tar.addfile(entry)
    content = buffer.getvalue()
    digest = digest_of(content)
    return Layer(Bytes(Descriptor(LAYER, digest, len(content)), content), digest)
