import io
import os
import shlex
import subprocess
import tarfile
import tempfile
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO
from urllib.request import getproxies

import certifi
import pytest
import zstandard

from images import layout, references
from images.build import build, plan
from images.engine import Engine
from images.errors import EngineUnavailable, ImageError
from images.inputs import Recipe
from images.pull import pull
from images.spec import Destination, ImageSpec
from images.unpack import unpacked
from runtime.models import ModelSpec
from tests.images.registries import real_registry

_TOKEN = "planted-token-5e3f"
_CA_MARK = "planted-authority-9c1d"
_SECRETS = (_TOKEN.encode(), _CA_MARK.encode(), b64encode(f"user:{_TOKEN}".encode()))

docker = pytest.mark.docker
MakeRecipe = Callable[[str], Recipe]


def _silent(_: str) -> None:
    pass


def test_the_plan_names_what_goes_in(small_model: ModelSpec) -> None:
    spec = ImageSpec("i2v:plan", "base:1", "cpu", small_model, Path("nowhere"), {"a-1-py3-none-any.whl": Path("a")})
    shown = "\n".join(f"{step.title}: {step.detail}" for step in plan(spec, wheel_bytes=2_000_000))
    assert "base image: base:1" in shown
    assert "packages: 1 wheels, 2 MB, by hash from the lock cpu" in shown
    assert "small: 2 files, 702 bytes" in shown
    assert "i2v:plan" in shown


def test_without_an_engine_a_build_says_so(
    small_model: ModelSpec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    spec = ImageSpec("i2v:none", "base:1", "cpu", small_model, Path("nowhere"), {})
    with pytest.raises(EngineUnavailable):
        build(spec, _silent)


@docker
def test_a_base_image_that_cannot_be_had_is_said(spec: ImageSpec) -> None:
    absent = replace(spec, base_image="127.0.0.1:9/nosuch:1")
    with pytest.raises(ImageError, match="base image cannot be had") as caught:
        build(absent, _silent)
    assert "registry mirror" in caught.value.hint


@docker
def test_a_base_image_without_python_is_said(spec: ImageSpec, small_recipe: Recipe) -> None:
    # Python's directories are hidden from the one command that needs them.
    text = small_recipe.dockerfile.read_text().replace("python3 -m venv /opt/uv", "PATH=/none; python3 -m venv /opt/uv")
    small_recipe.dockerfile.write_text(text)
    with pytest.raises(ImageError, match="no Python"):
        build(spec, _silent, recipe=small_recipe)


@docker
def test_a_full_disk_is_said(spec: ImageSpec, recipe_of: MakeRecipe) -> None:
    recipe = recipe_of(
        "FROM ${BASE_IMAGE}\n"
        "RUN --mount=type=tmpfs,size=1048576,target=/small dd if=/dev/zero of=/small/file bs=1M count=2"
    )
    with pytest.raises(ImageError, match="no space left"):
        build(spec, _silent, recipe=recipe)


@docker
@pytest.mark.parametrize("project", ["uv", "annotated_doc"])
def test_a_wheel_that_was_not_handed_over_is_said(spec: ImageSpec, small_recipe: Recipe, project: str) -> None:
    without = {name: path for name, path in spec.wheels.items() if not name.startswith(f"{project}-")}
    assert len(without) == len(spec.wheels) - 1
    with pytest.raises(ImageError, match="wheel that was not handed over"):
        build(replace(spec, wheels=without), _silent, recipe=small_recipe)


@docker
def test_a_damaged_wheel_is_thrown_away(spec: ImageSpec, small_recipe: Recipe, tmp_path: Path) -> None:
    altered = dict(spec.wheels)
    name = next(name for name in altered if name.startswith("annotated_doc-"))
    altered[name] = tmp_path / "altered"
    altered[name].write_bytes(spec.wheels[name].read_bytes() + b"!")
    with pytest.raises(ImageError, match="not the one that the lock names"):
        build(replace(spec, wheels=altered), _silent, recipe=small_recipe)


@docker
def test_the_packages_need_no_network(spec: ImageSpec, small_recipe: Recipe) -> None:
    text = small_recipe.dockerfile.read_text().replace("RUN --mount", "RUN --network=none --mount")
    assert "--network=none" in text
    small_recipe.dockerfile.write_text(text)
    build(spec, _silent, recipe=small_recipe)


@docker
def test_a_build_that_takes_too_long_is_ended(spec: ImageSpec, recipe_of: MakeRecipe, engine: Engine) -> None:
    recipe = recipe_of("FROM ${BASE_IMAGE}\nRUN sleep 600")
    with pytest.raises(ImageError, match="given up after 2 s"):
        build(spec, _silent, recipe=recipe, timeout=2)
    with pytest.raises(ImageError, match="no image"):
        engine.image(spec.tag)


@docker
def test_an_interrupt_ends_the_build_and_all_its_processes(spec: ImageSpec, recipe_of: MakeRecipe) -> None:
    recipe = recipe_of("FROM ${BASE_IMAGE}\nRUN echo under way; sleep 600")

    def interrupt(line: str) -> None:
        if line == "under way":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(spec, interrupt, recipe=recipe)
    assert not [command for command in _commands() if f"--tag={spec.tag}" in command]


@docker
def test_a_change_of_code_reuses_the_packages(spec: ImageSpec, small_recipe: Recipe) -> None:
    build(spec, _silent, recipe=small_recipe)
    (small_recipe.context / "runtime" / "models.py").write_text("# changed\n")
    said: list[str] = []
    built = build(spec, said.append, recipe=small_recipe)
    assert "[packages 1/1] RUN  cached" in said
    assert {"packages", "app", "export"} <= {phase.name for phase in built.phases}


@docker
def test_nothing_but_the_runtime_is_sent(spec: ImageSpec, small_recipe: Recipe, engine: Engine) -> None:
    for name in ("runtime/__pycache__/old.pyc", "runtime/deep/__pycache__/old.pyc", "bootstrap/cli.py", ".netrc"):
        path = small_recipe.context / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("must stay here")
    small_recipe.dockerfile.write_text("FROM scratch\nCOPY . /\n")
    build(spec, _silent, recipe=small_recipe)
    sent = {name for name, _ in _files(engine, spec.tag)}
    assert "images/uv.txt" in sent
    assert "runtime/models.py" in sent
    assert not [name for name in sent if name.endswith(("old.pyc", "cli.py", ".netrc"))]


@docker
def test_no_secret_reaches_the_image_or_a_command_line(
    spec: ImageSpec, small_recipe: Recipe, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _plant(monkeypatch, tmp_path)
    said: list[str] = []

    def listen(line: str) -> None:
        said.extend((line, *_commands()))

    build(spec, listen, recipe=small_recipe)
    assert [line for line in said if f"--tag={spec.tag}" in line]
    _assert_without_secrets(engine, spec.tag, said)


@docker
def test_no_secret_reaches_what_is_pushed_or_written(
    spec: ImageSpec, small_recipe: Recipe, free_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _plant(monkeypatch, tmp_path)
    said: list[str] = []
    archive = tmp_path / "image.tar"
    with real_registry(tmp_path, free_port) as host:
        destination = Destination(push=f"{host}/i2v:1", output=archive)
        build(spec, said.append, destination=destination, recipe=small_recipe, scratch=tmp_path)
        for image in (pull(references.parse(f"{host}/i2v:1")), layout.read(archive)):
            layers = [b"".join(unpacked(layer)) for layer in image.layers]
            assert any(b"annotated_doc" in layer for layer in layers)
            words = [repr(said).encode(), image.manifest.content, image.config.content, *layers]
            assert not [secret for secret in _SECRETS if any(secret in text for text in words)]


@docker
def test_no_secret_of_a_plain_build_reaches_the_image(
    spec: ImageSpec,
    small_recipe: Recipe,
    engine: Engine,
    index_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _plant(monkeypatch, tmp_path)
    authority, settings = tmp_path / "authority.pem", tmp_path / "installer"
    own = os.environ.get("SSL_CERT_FILE") or certifi.where()
    authority.write_bytes(Path(own).read_bytes() + f"\n# {_CA_MARK}\n".encode())
    with _index_behind_a_password(index_url) as (index, served):
        proxies = {f"{scheme}_PROXY".upper(): value for scheme, value in getproxies().items()}
        variables = {"PIP_INDEX_URL": index, "UV_DEFAULT_INDEX": index, **proxies}
        settings.write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items()))
        secrets = (f"--secret=id=installer,src={settings}", f"--secret=id=ca,src={authority}")
        options = (
            *secrets,
            f"--build-arg=BASE_IMAGE={spec.base_image}",
            "--network=host",
            "--progress=plain",
            "--load",
        )
        command = ("docker", "buildx", "build", f"--tag={spec.tag}", *options, str(small_recipe.context))
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert {"/simple/uv/", "/simple/annotated-doc/"} <= set(served)
    _assert_without_secrets(engine, spec.tag, [done.stdout])


def _assert_without_secrets(engine: Engine, tag: str, said: list[str]) -> None:
    """Neither in what was said, nor in the image's configuration, labels, history, or files of any layer."""
    image = engine.client.images.get(tag)
    words = repr((said, image.attrs, image.history())).encode()
    assert not [secret for secret in _SECRETS if secret in words]
    assert not [name for name, content in _files(engine, tag) if any(secret in content for secret in _SECRETS)]


def _plant(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """The token in every place from which a careless build would take it along."""
    # The docker command finds its plugins and contexts in its own configuration, which stays.
    monkeypatch.setenv("DOCKER_CONFIG", os.environ.get("DOCKER_CONFIG") or str(Path.home() / ".docker"))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PIP_INDEX_URL", f"https://user:{_TOKEN}@index.example/simple")
    monkeypatch.setenv("HF_TOKEN", _TOKEN)
    (home / ".netrc").write_text(f"machine index.example login user password {_TOKEN}\n")
    (home / "pip.conf").write_text(f"[global]\nindex-url = https://user:{_TOKEN}@index.example/simple\n")


class _Index(BaseHTTPRequestHandler):
    """Sends those who know the password on to the real index, and remembers for what."""

    def __init__(self, upstream: str, served: list[str], *arguments: object) -> None:
        self.upstream, self.served = upstream, served
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        known = "Basic " + b64encode(f"user:{_TOKEN}".encode()).decode()
        if self.headers["Authorization"] == known:
            self.served.append(self.path)
            self.send_response(302)
            self.send_header("Location", self.upstream.rstrip("/") + self.path.removeprefix("/simple"))
        else:
            self.send_response(401)
            self.send_header("WWW-Authenticate", "Basic")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def _index_behind_a_password(upstream: str) -> Iterator[tuple[str, list[str]]]:
    """Its URL, password and all, and the paths that it has served."""
    served: list[str] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Index, upstream, served)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://user:{_TOKEN}@127.0.0.1:{server.server_port}/simple", served
        server.shutdown()
        thread.join()


def _commands() -> list[str]:
    """The command line of every process on this machine."""
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            commands.append(path.read_text(errors="replace").replace("\0", " "))
    return commands


def _files(engine: Engine, reference: str) -> Iterator[tuple[str, bytes]]:
    """Every file of an image, of every layer, and the image's own documents."""
    with tempfile.TemporaryFile() as saved:
        for chunk in engine.client.api.get_image(reference):
            saved.write(chunk)
        saved.seek(0)
        with tarfile.open(fileobj=saved) as outer:
            for blob in outer:
                if blob.isfile() and (content := outer.extractfile(blob)):
                    yield from _unpacked(blob.name, content)


def _unpacked(name: str, content: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    """The files of a layer, or a document as it is."""
    packed = content.read(4) == b"\x28\xb5\x2f\xfd"
    content.seek(0)
    tar = io.BytesIO(zstandard.ZstdDecompressor().stream_reader(content).read()) if packed else content
    try:
        with tarfile.open(fileobj=tar) as layer:
            for member in layer:
                file = layer.extractfile(member) if member.isfile() else None
                yield member.name, file.read() if file else b""
    except tarfile.ReadError:
        content.seek(0)
        yield name, content.read()
