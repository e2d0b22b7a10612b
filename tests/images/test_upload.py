import os
from collections.abc import Iterator
from dataclasses import replace

import pytest

from images.errors import ImageError
from images.oci import LAYER, Descriptor, digest_of
from images.registry import Registry
from images.registry_http import settings
from images.upload import mount, upload
from tests.images.registries import Answers, Counted, ScriptedRegistry, content, counted

pytestmark = pytest.mark.usefixtures("no_logins")

_SIZE = 10_000_000


@pytest.fixture
def blob() -> Counted:
    return counted(os.urandom(_SIZE))


def _arrives(scripted: ScriptedRegistry, blob: Counted) -> None:
    """Upload the blob: it gets there, and what was told of it comes to its size."""
    told: list[int] = []
    upload(Registry(scripted.reference(), push=True), blob, told.append)
    assert scripted.blobs[blob.descriptor.digest] == blob.content
    assert sum(told) == len(blob.content)


def _sent(scripted: ScriptedRegistry) -> list[tuple[str, int]]:
    return [(request.method, request.body) for request in scripted.requests if request.body]


def _refuse_above(limit: int, scripted: ScriptedRegistry) -> None:
    def refuse(handler: Answers) -> bool:
        if handler.take > limit:
            handler.reply(413)
        return handler.take > limit

    scripted.before = refuse


@pytest.mark.parametrize("size", [0, 1, _SIZE])
def test_a_blob_is_sent_in_one_request(scripted: ScriptedRegistry, size: int) -> None:
    blob = counted(os.urandom(size))
    _arrives(scripted, blob)
    assert [request.body for request in scripted.asked("PUT")] == [size]
    assert scripted.asked("PUT")[0].headers["Content-Length"] == str(size)
    assert scripted.asked("PATCH") == []


def test_what_is_too_large_is_sent_in_pieces_that_are_not(scripted: ScriptedRegistry, blob: Counted) -> None:
    _refuse_above(3_000_000, scripted)
    _arrives(scripted, blob)
    taken = [request.body for request in scripted.asked("PATCH") if request.body]
    assert taken == [2_500_000] * 4
    ranges = [request.headers["Content-Range"] for request in scripted.asked("PATCH") if request.body]
    assert ranges[:2] == ["0-2499999", "2500000-4999999"]


def test_a_proxy_that_takes_a_mebibyte_is_enough(scripted: ScriptedRegistry, blob: Counted) -> None:
    _refuse_above(1 << 20, scripted)
    _arrives(scripted, blob)


def test_a_proxy_that_takes_less_is_said(scripted: ScriptedRegistry, blob: Counted) -> None:
    _refuse_above(100_000, scripted)
    with pytest.raises(ImageError, match="not even small pieces") as caught:
        upload(Registry(scripted.reference(), push=True), blob, lambda _: None)
    assert "proxy" in caught.value.hint


def test_what_breaks_off_is_sent_in_pieces(scripted: ScriptedRegistry, blob: Counted) -> None:
    def cut(handler: Answers) -> bool:
        if handler.command == "PUT" and handler.take:
            list(handler.body(1_000_000))
            raise handler.reset()
        return False

    scripted.before = cut
    _arrives(scripted, blob)
    assert ("PATCH", _SIZE) in _sent(scripted)


def test_a_registry_that_does_not_answer_in_time_gets_pieces(scripted: ScriptedRegistry, blob: Counted) -> None:
    def swallow(handler: Answers) -> bool:
        if handler.command == "PUT" and handler.take:
            list(handler.body())
            handler.rfile.read1(1)  # till the other side gives up
            handler.close_connection = True
            return True
        return False

    scripted.before = swallow
    registry = Registry(scripted.reference(), replace(settings(), response_timeout=0.5), push=True)
    upload(registry, blob, lambda _: None)
    assert scripted.blobs[blob.descriptor.digest] == blob.content


def test_a_lost_answer_costs_nothing(scripted: ScriptedRegistry, blob: Counted) -> None:
    def lose(handler: Answers) -> bool:
        if handler.command == "PUT":
            scripted.blobs[blob.descriptor.digest] = b"".join(handler.body())
            raise handler.reset()
        return False

    scripted.before = lose
    _arrives(scripted, blob)
    assert _sent(scripted) == [("PUT", _SIZE)]


def _cut_pieces(scripted: ScriptedRegistry, blob: Counted, cuts: Iterator[int], forget: bool = False) -> None:
    """Take no whole blob, and end some pieces after so many bytes; these the registry has, unless it forgets all."""

    def cut(handler: Answers) -> bool:
        if handler.command == "PUT" and handler.take:
            handler.reply(413)
            return True
        length = next(cuts, None) if handler.command == "PATCH" else None
        if length is None:
            return False
        name = handler.path.partition("?")[0].rpartition("/")[2]
        scripted.uploads[name] += b"".join(handler.body(length))
        if forget:
            del scripted.uploads[name]
        raise handler.reset()

    scripted.before = cut


def test_a_piece_that_breaks_off_goes_on_where_the_registry_is(scripted: ScriptedRegistry, blob: Counted) -> None:
    _cut_pieces(scripted, blob, iter([4_000_000, 3_000_000]))
    _arrives(scripted, blob)
    assert [request.body for request in scripted.asked("PATCH")] == [4_000_000, 3_000_000, 3_000_000]
    assert blob.reads[-2:] == [4_000_000, 7_000_000]


def test_an_upload_that_the_registry_has_lost_is_begun_anew(scripted: ScriptedRegistry, blob: Counted) -> None:
    _cut_pieces(scripted, blob, iter([4_000_000]), forget=True)
    _arrives(scripted, blob)
    assert [request.body for request in scripted.asked("PATCH")] == [4_000_000, _SIZE]


def test_a_blob_that_breaks_off_always_is_given_up(scripted: ScriptedRegistry, blob: Counted) -> None:
    _cut_pieces(scripted, blob, iter([0] * 100))
    with pytest.raises(ImageError, match=scripted.host):
        upload(Registry(scripted.reference(), push=True), blob, lambda _: None)
    assert len(scripted.asked("PATCH")) == 5


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_registry_that_is_busy_is_sent_it_again(scripted: ScriptedRegistry, blob: Counted, status: int) -> None:
    refusals = iter(range(2))

    def busy(handler: Answers) -> bool:
        if handler.command != "PUT" or next(refusals, None) is None:
            return False
        list(handler.body())
        handler.reply(status, {"Retry-After": "0"})
        return True

    scripted.before = busy
    _arrives(scripted, blob)
    assert _sent(scripted) == [("PUT", _SIZE)] * 3


@pytest.mark.parametrize(
    ("named", "size", "why"),
    [
        (b"others", 6, "found other bytes"),
        (b"content", 8, "ends after 7 bytes, and not 8"),
        (b"conten", 6, None),
    ],
)
def test_a_file_that_was_changed_is_not_taken_for_what_it_was(
    scripted: ScriptedRegistry, named: bytes, size: int, why: str | None
) -> None:
    blob = Counted(Descriptor(LAYER, digest_of(named), size), b"content")
    registry = Registry(scripted.reference(), push=True)
    if why is None:  # it became longer, but its beginning is right
        upload(registry, blob, lambda _: None)
        assert scripted.blobs[digest_of(named)] == named
        return
    with pytest.raises(ImageError, match=why):
        upload(registry, blob, lambda _: None)
    assert scripted.blobs == {}


def test_a_file_that_cannot_be_read_is_said(scripted: ScriptedRegistry) -> None:
    class Gone(Counted):
        def read(self, offset: int = 0) -> Iterator[bytes]:
            yield self.content[:10]
            raise OSError(5, "Input/output error")

    blob = counted(b"x" * 20)
    with pytest.raises(ImageError, match=r"cannot read sha256:.*: Input/output error"):
        upload(Registry(scripted.reference(), push=True), Gone(blob.descriptor, blob.content), lambda _: None)


def test_a_blob_from_another_registry_is_passed_on(scripted: ScriptedRegistry, blob: Counted) -> None:
    with ScriptedRegistry() as source:
        source.blobs[blob.descriptor.digest] = blob.content
        remote = Registry(source.reference()).blob(blob.descriptor)
        upload(Registry(scripted.reference(), push=True), remote, lambda _: None)
    assert scripted.blobs[blob.descriptor.digest] == blob.content


def test_a_failure_of_the_source_is_not_blamed_on_the_target(scripted: ScriptedRegistry, blob: Counted) -> None:
    with ScriptedRegistry() as source:
        remote = Registry(source.reference()).blob(blob.descriptor)
        with pytest.raises(ImageError, match=f"{source.host} does not know"):
            upload(Registry(scripted.reference(), push=True), remote, lambda _: None)
    assert len(scripted.asked("POST")) == 1


def test_what_is_not_mounted_leaves_no_upload_behind(scripted: ScriptedRegistry, blob: Counted) -> None:
    registry = Registry(scripted.reference(), push=True)
    assert not mount(registry, blob.descriptor.digest, "other/one")
    assert len(scripted.asked("DELETE")) == 1
    scripted.blobs[blob.descriptor.digest] = content(blob)
    assert mount(registry, blob.descriptor.digest, "other/one")
    assert "from=other/one" in scripted.asked("POST")[1].path


@pytest.mark.parametrize("status", [401, 403, 404, 405])
def test_a_registry_that_refuses_to_mount_is_sent_the_blob(
    scripted: ScriptedRegistry, blob: Counted, status: int
) -> None:
    def refuse(handler: Answers) -> bool:
        if "mount=" not in handler.path:
            return False
        handler.reply(status)
        return True

    scripted.before = refuse
    assert not mount(Registry(scripted.reference(), push=True), blob.descriptor.digest, "other/one")
