"""Names and addresses of this machine. Standard library only."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether only this machine is reached under this name or address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
