"""Which network this machine is on, as far as that decides which mirrors are good: one digest, no secrets in it.

The default route and its router's hardware address (as Linux shows them), the proxies, and the certificates. Where the
system does not show its routes, all networks with the same proxies look alike: whatever is remembered of one has to be
confirmed anyway.
"""

from __future__ import annotations

import hashlib
import os
import socket
import struct
from collections.abc import Mapping
from pathlib import Path

from mirrors.digest import sha256_of
from mirrors.http import CA_VARIABLES, HttpSettings
from mirrors.urls import redact

_PROC = Path("/proc/net")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_ANYWHERE = "00000000"
_NO_HOP = "0" * 32


def identity(http: HttpSettings, environ: Mapping[str, str] = os.environ, proc: Path = _PROC) -> str:
    """16 hexadecimal digits that change with the network.

    Args:
        http: the proxies and certificates that were given.
        environ: the environment, which may name others.
        proc: where Linux shows its routes.
    """
    facts = [*_routers(proc), *_proxies(http, environ), _certificates(http, environ)]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def _routers(proc: Path) -> list[str]:
    """The default routes: interface, router, and the router's hardware address where it is known."""
    hardware = {(row[0], row[5]): row[3] for row in _rows(proc / "arp") if len(row) >= 6}
    found = []
    for row in _rows(proc / "route"):
        if len(row) >= 3 and row[1] == _ANYWHERE:
            router = _dotted(row[2])
            found.append(f"{row[0]} {router} {hardware.get((router, row[0]), '')}")
    sixes = (row for row in _rows(proc / "ipv6_route") if len(row) >= 10 and row[1] == "00" and row[4] != _NO_HOP)
    return sorted([*found, *(f"{row[9]} {row[4]}" for row in sixes)])


def _rows(path: Path) -> list[list[str]]:
    try:
        return [line.split() for line in path.read_text(encoding="ascii", errors="replace").splitlines()]
    except OSError:
        return []


def _dotted(hexadecimal: str) -> str:
    """An IPv4 address as people write it; the kernel shows its bytes as one number of this machine's order."""
    try:
        return socket.inet_ntoa(struct.pack("=L", int(hexadecimal, 16)))
    except (ValueError, struct.error):
        return hexadecimal


def _proxies(http: HttpSettings, environ: Mapping[str, str]) -> list[str]:
    """The proxies that are used; a password that changes does not make another network."""
    if http.proxies is not None:
        return [f"{scheme} {redact(url)}" for scheme, url in sorted(http.proxies.items())]
    named = ((name, environ.get(name) or environ.get(name.upper())) for name in _PROXIES)
    return [f"{name} {redact(value)}" for name, value in named if value]


def _certificates(http: HttpSettings, environ: Mapping[str, str]) -> str:
    """What is trusted: behind a proxy that opens TLS, that is a certificate of its own."""
    named = next((environ[name] for name in CA_VARIABLES if environ.get(name)), None)
    path = http.ca_bundle or (Path(named) if named else None)
    try:
        return sha256_of(path) if path is not None else ""
    except OSError:
        return str(path)
