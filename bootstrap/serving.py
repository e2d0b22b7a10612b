"""What the local server is to serve, and where: the options of `run`, as its service repeats them."""

from __future__ import annotations

from dataclasses import dataclass

HOST, PORT = "127.0.0.1", 8000


@dataclass(frozen=True)
class Serving:
    """What was asked for.

    Attributes:
        model: None: the one deployed last.
        host: the address to listen on.
        port: the port.
        precision: None: what suits the model and the device.
        drain: the seconds for which a stop waits for the job that is being made.
    """

    model: str | None = None
    host: str = HOST
    port: int = PORT
    precision: str | None = None
    drain: float = 0.0

    @property
    def url(self) -> str:
        """Where it answers, from this machine."""
        shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - compared, not bound
        return f"http://[{shown}]:{self.port}" if ":" in shown else f"http://{shown}:{self.port}"

    def options(self) -> list[str]:
        """The same as options of `run`; what is as usual is left out, but for the address."""
        given = ["--host", self.host, "--port", str(self.port)]
        given += ["--model", self.model] if self.model else []
        given += ["--precision", self.precision] if self.precision else []
        return given + (["--drain", f"{self.drain:g}"] if self.drain else [])
