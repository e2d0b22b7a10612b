"""What the headers of an answer say of a mirror that was asked for a part of the wanted file. Reads no body."""

from __future__ import annotations

import re

import requests

from mirrors import index
from mirrors.probing.measurement import Unusable

_NUMBER = r"\d{1,18}"  # no file has more digits in its size, and int() refuses some thousand of them


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
    if status == 416 and (told := re.fullmatch(rf"bytes \*/({_NUMBER})", _range(response), re.ASCII)):
        raise PastTheEnd(int(told[1]))
    if status in (404, 410):
        raise Unusable(f"lists {label} and does not have it (HTTP {status})")
    if status not in (200, 206):
        raise Unusable(index.refusal(response))
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise Unusable("serves a web page in place of the file")
    if status == 200:
        length = re.fullmatch(_NUMBER, response.headers.get("Content-Length", ""), re.ASCII)
        return 0, int(length[0]) if length else None
    extent = re.fullmatch(rf"bytes ({_NUMBER})-{_NUMBER}/({_NUMBER}|\*)", _range(response), re.ASCII)
    size = None if extent is None or extent[2] == "*" else int(extent[2])
    if extent is None or int(extent[1]) != start or (size is not None and size <= start):
        raise Unusable("answers with another range than was asked for")
    return start, size


def _range(response: requests.Response) -> str:
    return response.headers.get("Content-Range", "")
