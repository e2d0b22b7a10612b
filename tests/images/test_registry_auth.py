import base64
import json
import threading
from collections import Counter
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from images.errors import ImageError
from images.pull import pull
from images.push import push
from images.references import parse
from images.registry import Registry
from images.registry_auth import Challenge, read_challenge
from tests.images.registries import NAME, PASSWORD, Answers, ScriptedRegistry, log_in, real_registry, small_image


def _nothing(_: int) -> None:
    pass


class TokenGate:
    """Lets into a registry only who has a token of its, each good for so many requests."""

    def __init__(self, registry: ScriptedRegistry, uses: int = 1 << 30, challenge: str = "") -> None:
        self.registry = registry
        self.challenge = challenge or f'Bearer realm="{registry.base}/token",service="test registry"'
        self.uses = uses
        self.left: Counter[str] = Counter()
        self.forbidden = ""  # a scope, which has a request refused whole
        self.asked: list[dict[str, list[str]]] = []
        self.lock = threading.Lock()
        registry.before = self.answer

    def answer(self, handler: Answers) -> bool:
        path, _, query = handler.path.partition("?")
        if path == "/token":
            body = b"".join(handler.body()).decode()
            self._give(handler, parse_qs(query or body))
            return True
        token = handler.headers.get("Authorization", "")
        with self.lock:
            good = self.left[token] > 0
            self.left[token] -= good
        if not good:
            handler.reply(401, {"WWW-Authenticate": self.challenge})
        return not good

    def _give(self, handler: Answers, asked: dict[str, list[str]]) -> None:
        basic = f"Basic {base64.b64encode(f'{NAME}:{PASSWORD}'.encode()).decode()}"
        if handler.headers.get("Authorization") != basic and asked.get("refresh_token") != [PASSWORD]:
            handler.reply(401)
            return
        if self.forbidden in asked["scope"]:
            handler.reply(403)
            return
        with self.lock:
            self.asked.append(asked)
            token = f"token-{len(self.asked)}"
            self.left[f"Bearer {token}"] = self.uses
        key = "access_token" if "refresh_token" in asked else "token"
        handler.reply(200, body=json.dumps({key: token, "expires_in": 300}).encode())


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('Bearer realm="https://a/t?x=1,2",service="s, t",scope="x"', Challenge("bearer", "https://a/t?x=1,2", "s, t")),
        ('Basic realm="r", Bearer realm="https://a",service=s', Challenge("bearer", "https://a", "s")),
        ("basic", Challenge("basic")),
        ('Basic realm="a \\"quoted\\" one"', Challenge("basic", 'a "quoted" one')),
        ("Negotiate", None),
        ("", None),
    ],
)
def test_a_challenge_is_read(header: str, expected: Challenge | None) -> None:
    assert read_challenge(header) == expected


def test_one_token_serves_a_whole_push(scripted: ScriptedRegistry, no_logins: Path) -> None:
    log_in(no_logins, scripted.host)
    gate = TokenGate(scripted)
    push(small_image(1, 5), scripted.reference(), _nothing, siblings=["other/one"])
    assert gate.asked == [
        {
            "service": ["test registry"],
            "scope": ["repository:some/image:pull,push", "repository:other/one:pull"],
        }
    ]


def test_tokens_that_end_in_the_middle_are_renewed(scripted: ScriptedRegistry, no_logins: Path) -> None:
    log_in(no_logins, scripted.host)
    gate = TokenGate(scripted, uses=6)
    image = small_image(1, 6)
    sent: list[int] = []
    pushed = push(image, scripted.reference(), sent.append)
    assert scripted.manifests["1"][1] == image.manifest.content
    assert len(gate.asked) > 2
    assert sum(sent) == pushed.sent_bytes == sum(blob.descriptor.size for blob in image.blobs)


def test_an_identity_token_is_given_for_another(scripted: ScriptedRegistry, no_logins: Path) -> None:
    (no_logins / "config.json").write_text(json.dumps({"auths": {scripted.host: {"identitytoken": PASSWORD}}}))
    gate = TokenGate(scripted)
    assert not Registry(scripted.reference()).has_blob("sha256:none")
    assert gate.asked[0]["grant_type"] == ["refresh_token"]
    assert gate.asked[0]["scope"] == ["repository:some/image:pull"]
    assert not [request for request in scripted.requests if PASSWORD in request.path]


def test_a_wrong_password_is_said_and_not_shown(scripted: ScriptedRegistry, no_logins: Path) -> None:
    log_in(no_logins, scripted.host, "wrong-77aa")
    TokenGate(scripted)
    with pytest.raises(ImageError, match="does not let you in") as caught:
        Registry(scripted.reference()).has_blob("sha256:none")
    assert f"docker login {scripted.host}" in caught.value.hint
    assert "wrong-77aa" not in str(caught.value) + caught.value.hint


def test_a_token_that_may_not_write_is_said_at_once(scripted: ScriptedRegistry, no_logins: Path) -> None:
    log_in(no_logins, scripted.host)
    realm = f'Bearer realm="{scripted.base}/token"'
    gate = TokenGate(scripted, uses=0, challenge=f'{realm},error="insufficient_scope"')
    with pytest.raises(ImageError, match="gives you no access to") as caught:
        Registry(scripted.reference()).has_blob("sha256:none")
    assert "docker login" in caught.value.hint
    assert len(gate.asked) == 1


def test_a_password_is_not_sent_to_a_token_server_without_https(scripted: ScriptedRegistry, no_logins: Path) -> None:
    log_in(no_logins, scripted.host)
    TokenGate(scripted, challenge='Bearer realm="http://192.0.2.1/token?key=planted"')
    with pytest.raises(ImageError, match=r"http://192.0.2.1/token, which is not https"):
        Registry(scripted.reference()).has_blob("sha256:none")


def test_a_token_server_that_gives_none_is_said(scripted: ScriptedRegistry) -> None:
    def answer(handler: Answers) -> bool:
        if handler.path.startswith("/token"):
            handler.reply(200, body=b"[]")
        else:
            handler.reply(401, {"WWW-Authenticate": f'Bearer realm="{scripted.base}/token"'})
        return True

    scripted.before = answer
    with pytest.raises(ImageError, match="gives no token"):
        Registry(scripted.reference()).has_blob("sha256:none")


def test_an_unknown_kind_of_login_is_said(scripted: ScriptedRegistry) -> None:
    TokenGate(scripted, challenge="Negotiate")
    with pytest.raises(ImageError, match="a kind of login that is not known"):
        Registry(scripted.reference()).has_blob("sha256:none")


def test_a_real_registry_takes_the_password(no_logins: Path, tmp_path: Path, free_port: int) -> None:
    image = small_image(1, 2)
    with real_registry(tmp_path, free_port, password=True) as host:
        reference = parse(f"{host}/some/image:1")
        with pytest.raises(ImageError, match="wants a name and a password") as caught:
            push(image, reference, _nothing)
        assert f"docker login {host}" in caught.value.hint
        log_in(no_logins, host, "wrong")
        with pytest.raises(ImageError, match=r"gives you no access to .*: 401") as caught:
            push(image, reference, _nothing)
        assert f"docker login {host}" in caught.value.hint
        log_in(no_logins, host)
        push(image, reference, _nothing)
        assert pull(reference).manifest == image.manifest


def test_a_sibling_that_may_not_be_read_does_not_keep_us_out(scripted: ScriptedRegistry, no_logins: Path) -> None:
    log_in(no_logins, scripted.host)
    gate = TokenGate(scripted)
    gate.forbidden = "repository:other/one:pull"
    image = small_image(1, 2)
    pushed = push(image, scripted.reference(), _nothing, siblings=["other/one"])
    assert {blob.outcome for blob in pushed.blobs} == {"sent"}
    assert gate.asked[-1]["scope"] == ["repository:some/image:pull,push"]
