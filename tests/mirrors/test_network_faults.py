"""What a network can do to an installation, one row each: the real uv and the real pip end with the right files.

Of three mirrors one has the fault. An index page that is stale, or a portal's, never gets as far as here: see
test_probe and test_resolve.
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from bootstrap.backends import uv
from mirrors.errors import FetchFailed
from mirrors.fetch import Downloads
from mirrors.gateway import Gateway
from mirrors.http import HttpSettings
from mirrors.resolve import Wheel
from mirrors.store import Store
from tests.mirrors.loopback import Fault, LoopbackMirror, until
from tests.small_wheels import locked, small_wheel

WHEELS = dict(small_wheel(name, size=size) for name, size in [("tiny", 0), ("other", 150_000), ("big", 900_000)])
DEAD = "http://127.0.0.1:9"  # nothing listens there


@dataclass
class Network:
    """Three mirrors that all have the files: one gets the fault and is asked first; and mirrors that nobody may ask."""

    bad: LoopbackMirror
    good: tuple[LoopbackMirror, LoopbackMirror]
    enter: Callable[[LoopbackMirror], LoopbackMirror]
    certificate: tuple[Path, Path]
    monkeypatch: pytest.MonkeyPatch
    untouched: list[LoopbackMirror] = field(default_factory=list)
    http: HttpSettings = field(default_factory=lambda: HttpSettings(connect_timeout=2.0, response_timeout=2.0))

    def https(self) -> LoopbackMirror:
        """Put an https mirror in the place of the bad one."""
        self.bad = self.enter(filled(LoopbackMirror(certificate=self.certificate)))
        return self.bad

    def wheels(self) -> list[Wheel]:
        """What is to be installed, and where it is."""
        mirrors = (self.bad, *self.good)
        return [locked(name, data, *(mirror.url(name) for mirror in mirrors)) for name, data in WHEELS.items()]


def filled(mirror: LoopbackMirror) -> LoopbackMirror:
    for name, data in WHEELS.items():
        mirror.add(name, data)
    return mirror


@pytest.fixture
def network(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    with ExitStack() as stack:
        bad, first, second = (stack.enter_context(filled(LoopbackMirror())) for _ in range(3))
        yield Network(bad, (first, second), stack.enter_context, certificate, monkeypatch)


Install = Callable[[Network, Path], None]


def install_with_uv(network: Network, directory: Path) -> None:
    environment = directory / "env"
    uv.create(environment, sys.executable, {})
    with Downloads(Store(directory / "store"), network.http) as downloads:
        uv.install(environment / "bin" / "python", network.wheels(), downloads, {}, lambda _: None)


def install_with_pip(network: Network, directory: Path) -> None:
    with (
        Downloads(Store(directory / "store"), network.http) as downloads,
        Gateway(network.wheels(), downloads, whole=True) as gateway,
    ):
        gateway.prefetch()
        pip(gateway, directory / "env")


def pip(gateway: Gateway, target: Path) -> None:
    """Run pip as a stranger to this machine's configuration; raises what the gateway knows, where pip fails."""
    lock = target.with_suffix(".txt")
    pins = (f"{wheel.project}==1.0 --hash=sha256:{wheel.artifact.sha256}\n" for wheel in gateway.wheels.values())
    lock.write_text("".join(pins), encoding="utf-8")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--no-cache-dir"]
    command += ["--require-hashes", "--index-url", gateway.index_url, "--target", str(target), "-r", str(lock)]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    environ |= {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    for failure in gateway.failures.values():
        raise failure
    assert done.returncode == 0, done.stderr


@pytest.fixture(params=[install_with_uv, install_with_pip], ids=["uv", "pip"])
def install(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    installer: Install = request.param
    return installer


def on_files(fault: Fault) -> Callable[[Network], None]:
    return lambda network: network.bad.misbehave("/files/*", fault)


def dies(network: Network) -> None:
    """In the middle of the first file, and refuses all connections from then on."""
    bad = network.bad
    bad.misbehave("/files/*", Fault(rate=200_000))

    def die() -> None:
        until(lambda: bad.sent)
        bad.stop()

    threading.Thread(target=die, daemon=True).start()


def redirects_in_a_loop(network: Network) -> None:
    for name in WHEELS:
        network.bad.misbehave(f"/files/{name}", Fault(redirect=network.bad.url(name)))


def redirects_to_http(network: Network) -> None:
    network.http = replace(network.http, ca_bundle=network.certificate[0])
    plain = network.enter(filled(LoopbackMirror()))
    network.untouched.append(plain)
    bad = network.https()
    for name in WHEELS:
        bad.misbehave(f"/files/{name}", Fault(redirect=plain.url(name)))


def has_a_certificate_that_nobody_trusts(network: Network) -> None:
    network.https()


class NoSuchHost(LoopbackMirror):
    """Its name does not resolve."""

    @property
    def base(self) -> str:
        return "https://no-such-mirror.invalid"


def does_not_resolve(network: Network) -> None:
    network.bad = network.enter(NoSuchHost())


def is_behind_a_dead_proxy(network: Network) -> None:
    network.bad = network.enter(NoSuchHost())
    network.monkeypatch.setenv("HTTPS_PROXY", DEAD.replace("://", "://user:hunter2@"))


ROWS: dict[str, Callable[[Network], None]] = {
    "dies mid-file": dies,
    "truncated body": on_files(Fault(truncate=100_000)),
    "403": on_files(Fault(status=403)),
    "404": on_files(Fault(status=404)),
    "429 with Retry-After": on_files(Fault(status=429, headers={"Retry-After": "1"})),
    "500": on_files(Fault(status=500)),
    "503 once": on_files(Fault(status=503, times=1, headers={"Retry-After": "0"})),
    "redirect loop": redirects_in_a_loop,
    "https to http": redirects_to_http,
    "slow": on_files(Fault(rate=20_000)),
    "hangs": on_files(Fault(hang=True)),
    "endless body": on_files(Fault(endless=True)),
    "tampered bytes": on_files(Fault(tamper=True)),
    "portal page": on_files(Fault(portal=True)),
    "no ranges": on_files(Fault(ignore_range=True)),
    "certificate that nobody trusts": has_a_certificate_that_nobody_trusts,
    "name that does not resolve": does_not_resolve,
    "dead proxy": is_behind_a_dead_proxy,
}


@pytest.mark.parametrize("fault", ROWS.values(), ids=ROWS.keys())
def test_one_bad_mirror_of_three(
    fault: Callable[[Network], None], install: Install, network: Network, tmp_path: Path
) -> None:
    fault(network)
    install(network, tmp_path)
    assert_installed(tmp_path / "env")
    assert_store_has_nothing_wrong(tmp_path / "store")
    assert network.bad.requests or network.bad.base.startswith("https:")  # those mostly end before a request
    assert all(mirror.requests == [] for mirror in network.untouched)


def assert_installed(environment: Path) -> None:
    """All files of all wheels are there, byte for byte. uv's is an environment, pip's a directory."""
    packages = next(environment.glob("lib/python*/site-packages"), environment)
    for data in WHEELS.values():
        with zipfile.ZipFile(io.BytesIO(data)) as wheel:
            for name in wheel.namelist():
                assert name.endswith("RECORD") or (packages / name).read_bytes() == wheel.read(name)


def assert_store_has_nothing_wrong(store: Path) -> None:
    for path in store.glob("sha256/*/*"):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name


@pytest.mark.parametrize(
    ("fault", "reason"),
    [(Fault(status=403), "403"), (Fault(tamper=True), "sha256"), (Fault(portal=True), "web page")],
    ids=["403", "tampered bytes", "portal page"],
)
def test_where_all_mirrors_are_bad_the_reason_of_each_is_told(
    fault: Fault, reason: str, install: Install, network: Network, tmp_path: Path
) -> None:
    for mirror in (network.bad, *network.good):
        mirror.misbehave("/files/*", fault)
    with pytest.raises(FetchFailed) as caught:
        install(network, tmp_path)
    for mirror in (network.bad, *network.good):
        assert mirror.base in str(caught.value)
    assert reason in str(caught.value)
    assert caught.value.hint
    assert not list((tmp_path / "store").glob("sha256/*/*"))


def test_where_the_proxy_is_dead_its_password_is_in_no_message(
    install: Install, network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_behind_a_dead_proxy(network)
    network.good = (network.enter(NoSuchHost()), network.enter(NoSuchHost()))
    with pytest.raises(FetchFailed, match="proxy") as caught:
        install(network, tmp_path)
    assert "hunter2" not in str(caught.value) + caught.value.hint


def test_several_installers_at_once_share_one_gateway_and_the_bytes(network: Network, tmp_path: Path) -> None:
    network.bad.misbehave("/files/*", Fault(rate=300_000))
    wheels, store = network.wheels(), Store(tmp_path / "store")
    with (
        Downloads(store, network.http) as downloads,
        Gateway(wheels, downloads) as gateway,
        ThreadPoolExecutor(4) as pool,
    ):
        done = [pool.submit(pip, gateway, tmp_path / f"env{number}") for number in range(4)]
        for installation in done:
            installation.result()
    for number in range(4):
        assert_installed(tmp_path / f"env{number}")
    assert sum(mirror.sent for mirror in (network.bad, *network.good)) <= 1.2 * sum(map(len, WHEELS.values()))
