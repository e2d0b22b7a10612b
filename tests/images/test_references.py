import pytest

from images.errors import ImageError
from images.references import Reference, parse

_DIGEST = f"sha256:{'a' * 64}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ubuntu", Reference("docker.io", "library/ubuntu", "latest")),
        ("me/i2v:1.0", Reference("docker.io", "me/i2v", "1.0")),
        ("docker.io/ubuntu", Reference("docker.io", "library/ubuntu", "latest")),
        ("index.docker.io/me/i2v", Reference("docker.io", "me/i2v", "latest")),
        ("localhost/i2v", Reference("localhost", "i2v", "latest")),
        ("localhost:5000/a/b/c:x", Reference("localhost:5000", "a/b/c", "x")),
        ("ghcr.io/o/p@" + _DIGEST, Reference("ghcr.io", "o/p", "", _DIGEST)),
        ("ghcr.io/o/p:1@" + _DIGEST, Reference("ghcr.io", "o/p", "1", _DIGEST)),
        ("[::1]:5000/i2v", Reference("[::1]:5000", "i2v", "latest")),
        ("Host/i2v", Reference("Host", "i2v", "latest")),
        ("a__b/c--d.e:T_1", Reference("docker.io", "a__b/c--d.e", "T_1")),
    ],
)
def test_a_name_is_read_as_docker_reads_it(text: str, expected: Reference) -> None:
    assert parse(text) == expected
    assert parse(str(expected)) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "the path"),
        ("Upper", "small letters"),
        ("a/Upper", "small letters"),
        ("a..b", "the path"),
        ("a/", "the path"),
        ("a:" + "t" * 129, "the tag"),
        ("a:", "the tag"),
        ("a:-b", "the tag"),
        ("a:é", "the tag"),
        ("a@sha256:12", "the digest"),
        ("a@sha512:" + "a" * 128, "the digest"),
        ("https://ghcr.io/a", "no scheme"),
        ("user:secret@ghcr.io/a", "the digest"),
        ("-a.b/c", "no host name"),
        ("a" * 64, "an image's id"),
        ("h.example/" + "a" * 250, "longer than 255"),
    ],
)
def test_a_name_that_docker_would_not_take_is_refused(text: str, why: str) -> None:
    with pytest.raises(ImageError, match=why):
        parse(text)


def test_docker_hub_is_asked_under_its_own_name() -> None:
    assert parse("ubuntu").api_host == "registry-1.docker.io"
    assert parse("ghcr.io/a").api_host == "ghcr.io"


@pytest.mark.parametrize(
    ("host", "expected"), [("localhost:5000", True), ("127.8.9.1", True), ("10.0.0.1:5000", False)]
)
def test_only_this_machine_is_loopback(host: str, expected: bool) -> None:
    assert parse(f"{host}/a").is_loopback == expected


def test_a_digest_counts_more_than_a_tag() -> None:
    assert parse(f"a:1@{_DIGEST}").target == _DIGEST
    assert parse("a:1").target == "1"
