"""Images of a small server that stands in for the runtime's: made without a build, and started in a second."""

from __future__ import annotations

from images.engine import Engine

#: Tells what it was started with and what it kept, whatever is asked; ends at SIGTERM.
SERVER = """
import json, signal, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        told = {'arguments': sys.argv[1:], 'kept': open('/data/kept').read()}
        told.update(ready=True, model='demo', phases=[])
        self.send_response(200); self.end_headers()
        self.wfile.write(json.dumps(told).encode())
    def log_message(self, *_): pass
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
open('/data/kept', 'a').write('x'); open('/tmp/used', 'w').write('x')
HTTPServer(('0.0.0.0', 8000), Handler).serve_forever()
"""

_USER = "10001:10001"
_AS_THE_RUNTIMES = "ln -s python3 /usr/bin/python; install -d -o 10001 -g 10001 /data"


def image(engine: Engine, base_image: str, tag: str, program: str) -> str:
    """An image of the base image and one Python program."""
    made = engine.client.containers.create(base_image, ["sh", "-c", _AS_THE_RUNTIMES], user="0")
    entrypoint = ["/usr/bin/env", "python3", "-c", program]
    try:
        made.start()
        made.wait()
        name, _, label = tag.partition(":")
        made.commit(
            name, label, conf={"Entrypoint": entrypoint, "Cmd": [], "User": _USER, "ExposedPorts": {"8000/tcp": {}}}
        )
    finally:
        made.remove()
    return tag
