"""The smallest wheels that install and import, made on the spot."""

from __future__ import annotations

import hashlib
import io
import random
import zipfile

from mirrors.fetch import Artifact
from mirrors.resolve import Wheel


def small_wheel(
    name: str = "tiny_package", *, content: str = "ANSWER = 42\n", size: int = 0, version: str = "1.0"
) -> tuple[str, bytes]:
    """File name and bytes of a package: one module, and `size` bytes that do not compress."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": content.encode(),
        f"{name}_data.bin": random.Random(name).randbytes(size),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, data in {**files, f"{info}/RECORD": record.encode()}.items():
            archive.writestr(zipfile.ZipInfo(path), data)
    return f"{name}-{version}-py3-none-any.whl", buffer.getvalue()


def locked(filename: str, data: bytes, *urls: str, size: int | None = -1) -> Wheel:
    """The wheel as a lock has it, to be had at those addresses. By default its size is known."""
    name, version = filename.split("-")[:2]
    artifact = Artifact(filename, len(data) if size == -1 else size, hashlib.sha256(data).hexdigest())
    return Wheel(name.replace("_", "-"), version, filename, artifact, urls)
