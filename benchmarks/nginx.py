"""An nginx of one's own on 127.0.0.1, in its own process: the honest server to measure clients against."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

_CONFIG = """
daemon off; master_process off; worker_processes 1; pid {home}/pid; error_log {home}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000; default_type application/octet-stream;
  client_body_temp_path {home}/t; proxy_temp_path {home}/t; fastcgi_temp_path {home}/t; uwsgi_temp_path {home}/t;
  scgi_temp_path {home}/t;
  server {{ listen 127.0.0.1:{port}; root {root}; {limit} }}
}}
"""


class Nginx:
    """Serves a directory as long as the `with` block lasts; `rate` limits each connection, in bytes/s."""

    def __init__(self, root: Path, rate: int | None = None) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._home = Path(tempfile.mkdtemp(prefix="i2v-nginx-"))
        limit = f"limit_rate {rate};" if rate else ""
        config = _CONFIG.format(home=self._home, root=root.resolve(), port=self._port, limit=limit)
        (self._home / "nginx.conf").write_text(config, encoding="utf-8")

    @property
    def url(self) -> str:
        """Where the directory is."""
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Nginx:
        command = ["nginx", "-p", str(self._home), "-c", str(self._home / "nginx.conf"), "-e", "stderr"]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
            except OSError:
                if time.monotonic() > end or self._process.poll() is not None:
                    raise
                time.sleep(0.02)
            else:
                return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.terminate()
        self._process.wait()
        shutil.rmtree(self._home)
