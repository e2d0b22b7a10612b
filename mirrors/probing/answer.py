"""What the headers of an answer say of a mirror that was asked for a part of the wanted file. Reads no body."""

from __future__ import annotations

import re

import requests

from mirrors import index
from mirrors.probing.measurement import Unusable


class PastTheEnd(Unusable):
    """The part that was asked for lies behind the end of the file, which has `size` bytes."""

    def __init__(self, size: int) -> None:
        super().__init__("has a shorter file than the other mirrors")
        self.size = size


def examine(response: requests.Response, start: int, label: str) -> tuple[int, int | None]:
    """Which byte the body begins with, and the size of the whole file, if it is said.

    Args:
        response: to a request for a range.
        start: the first byte that was asked for.
        label: the file, for people.

    Raises:
        Unusable: the body is not of that file.
        PastTheEnd: the file ends before `start`.
    """
    status = response.status_code
    if status == 416 and (told := re.fullmatch(r"bytes \*/(\d+)", _range(response), re.ASCII)):
        raise PastTheEnd(int(told[1]))
    if status in (404, 410):
        raise Unusable(f"lists {label} and does not have it (HTTP {status})")
    if status not in (200, 206):
        raise Unusable(index.refusal(response))
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise Unusable("serves a web page in place of the file")
    if status == 200:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isascii() and length.isdigit() else None
    extent = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", _range(response), re.ASCII)
    if extent is None or int(extent[1]) != start:
        raise Unusable("answers with another range than was asked for")
    return start, None if extent[2] == "*" else int(extent[2])


def _range(response: requests.Response) -> str:
    return response.headers.get("Content-Range", "")
