"""What makes two networks different."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootstrap.network import identity
from mirrors.http import HttpSettings

ROUTE = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t{gateway}\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth0\t0000A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
"""
ARP = """IP address       HW type     Flags       HW address            Mask     Device
192.168.0.1      0x1         0x2         {hardware}     *        eth0
"""


def linux(path: Path, gateway: str = "0100A8C0", hardware: str = "aa:bb:cc:dd:ee:01") -> Path:
    path.mkdir(exist_ok=True)
    (path / "route").write_text(ROUTE.format(gateway=gateway))
    (path / "arp").write_text(ARP.format(hardware=hardware))
    return path


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    return linux(tmp_path / "net")


def test_the_same_network_is_the_same(proc: Path) -> None:
    first = identity(HttpSettings(), {}, proc)
    assert len(first) == 16
    assert identity(HttpSettings(), {}, proc) == first


def test_another_router_is_another_network(proc: Path) -> None:
    first = identity(HttpSettings(), {}, proc)
    assert identity(HttpSettings(), {}, linux(proc, gateway="0200A8C0")) != first


def test_the_same_address_in_another_house_is_another_network(proc: Path) -> None:
    first = identity(HttpSettings(), {}, proc)
    assert identity(HttpSettings(), {}, linux(proc, hardware="aa:bb:cc:dd:ee:02")) != first


def test_a_neighbour_that_is_no_router_does_not_matter(proc: Path) -> None:
    first = identity(HttpSettings(), {}, proc)
    with (proc / "arp").open("a") as file:
        file.write("192.168.0.7      0x1         0x2         aa:bb:cc:dd:ee:07     *        eth0\n")
    assert identity(HttpSettings(), {}, proc) == first


def test_an_ipv6_router_counts_too(proc: Path) -> None:
    first = identity(HttpSettings(), {}, proc)
    hop = "fe80000000000000021122fffe334455"
    line = f"{'0' * 32} 00 {'0' * 32} 00 {hop} 00000400 00000001 00000000 00000003     eth0\n"
    (proc / "ipv6_route").write_text(line)
    assert identity(HttpSettings(), {}, proc) != first


def test_a_proxy_makes_another_network_and_its_password_does_not(proc: Path) -> None:
    none = identity(HttpSettings(), {}, proc)
    one = identity(HttpSettings(), {"https_proxy": "http://user:one@proxy.example:3128"}, proc)
    assert one != none
    assert identity(HttpSettings(), {"HTTPS_PROXY": "http://user:two@proxy.example:3128"}, proc) == one
    assert identity(HttpSettings(proxies={"https": "http://other.example:1"}), {}, proc) not in (none, one)


def test_a_certificate_makes_another_network(proc: Path, tmp_path: Path) -> None:
    none = identity(HttpSettings(), {}, proc)
    (tmp_path / "corp.pem").write_text("certificate")
    given = identity(HttpSettings(ca_bundle=tmp_path / "corp.pem"), {}, proc)
    assert given != none
    assert identity(HttpSettings(), {"SSL_CERT_FILE": str(tmp_path / "corp.pem")}, proc) == given
    assert identity(HttpSettings(ca_bundle=tmp_path / "missing.pem"), {}, proc) not in (none, given)


def test_where_the_system_shows_nothing_there_is_an_identity_too(tmp_path: Path) -> None:
    assert len(identity(HttpSettings(), {}, tmp_path / "nothing")) == 16


@pytest.mark.parametrize("line", ["eth0", "eth0 00000000 zz", "\x00\xff"])
def test_a_line_that_is_not_understood_is_no_error(proc: Path, line: str) -> None:
    for name in ("route", "arp", "ipv6_route"):
        (proc / name).write_text(line)
    identity(HttpSettings(), {}, proc)
