"""What people see of a URL."""

from __future__ import annotations

import pytest

from mirrors.urls import redact, shown


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://me:pw@a.example/x?sig=1#f", "https://a.example/x"),
        ("https://me:pw@a.example/x?sig=a@b", "https://a.example/x"),
        ("https://a.example:8443/@scope/x@1", "https://a.example:8443/@scope/x@1"),
        ("http://[::1]:80/x@1", "http://[::1]:80/x@1"),
        ("http://localhost:80/x@1", "http://localhost:80/x@1"),
        ("https://intranet/simple/", "https://intranet/simple/"),
        ("file:///srv/x@1", "file:///srv/x@1"),
        ("wheels/x@1", "wheels/x@1"),
        ("https://[a.example/x?sig=1", "https://[a.example/x"),
        ("me:secret@a.example/x", "a.example/x"),
    ],
)
def test_what_is_shown_of_a_url(url: str, expected: str) -> None:
    assert shown(url) == expected


@pytest.mark.parametrize(
    "user",
    [
        "me:sec/ret",
        "me:sec?ret",
        "me:sec#ret",
        "me:sec/r@et",
        "me:s@c/r@et",
        "me:1/secret",
        "me@corp.example:sec/ret",
        "a/secret",
        "me:/sec/ret/",
        "me:[/secret",
    ],
)
def test_a_password_that_is_not_encoded_is_not_shown(user: str) -> None:
    url = f"https://{user}@a.example/x"
    assert shown(url) == "https://a.example/x"
    assert redact(f"at {url} and http://b/") == "at https://***@a.example/x and http://b/"
    assert redact(f"http://b.example/?to={url}") == "http://b.example/?to=https://***@a.example/x"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("at https://me:p@w@a.example/x and http://b", "at https://***@a.example/x and http://b"),
        ("me:secret@a.example:80", "***@a.example:80"),
        ("me:sec/ret@a.example:80", "***@a.example:80"),
        ("a.example/x@1", "a.example/x@1"),
        ("see https://a.example/x@1, or ask me@a.example", "see https://a.example/x@1, or ask me@a.example"),
        ("https://a:b@c.example/ https://d:e@f.example/", "https://***@c.example/ https://***@f.example/"),
    ],
)
def test_free_text_keeps_all_but_the_secrets(text: str, expected: str) -> None:
    assert redact(text) == expected
