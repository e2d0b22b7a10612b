from images.errors import ImageError


def test_an_error_never_carries_a_password() -> None:
    error = ImageError("no answer from http://u:secret@host", "ask http://u:secret@host")
    assert "secret" not in str(error) + error.hint
