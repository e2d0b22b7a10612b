"""One repository of a registry: its manifests and blobs, by the OCI distribution protocol.

Whatever is read is checked against its digest; what a registry or a proxy sends is not trusted before. Knows neither
the order in which an image is pushed (`images.push`) nor how a blob gets there (`images.upload`).

    https://github.com/opencontainers/distribution-spec
"""

from __future__ import annotations

import json
import threading
from collections.abc import Container, Mapping, Sequence
from urllib.parse import urljoin, urlsplit

from images.calls import TRIES, wait_before
from images.errors import ImageError
from images.oci import DOCKER_INDEX, DOCKER_MANIFEST, INDEX, MANIFEST, Bytes, Descriptor, digest_of
from images.references import Reference
from images.registry_auth import Authorization
from images.registry_errors import RegistryError, damaged, refused
from images.registry_http import Answer, Body, Client, settings
from images.remote_blob import RemoteBlob
from mirrors.http import MAX_REDIRECTS, HttpSettings
from mirrors.urls import shown

_LOGINS = 3  # tokens for one request: another thread may use up a new one first
_MOST_MANIFEST = 4 << 20  # bytes; what the specification wants registries to take
_MOST_ERROR = 1 << 14
_TOO_LITTLE = "insufficient_scope"  # another token would not say more
_READABLE = (MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX)
_DIGEST_HEADER = "Docker-Content-Digest"


class Registry:
    """One repository, for all threads."""

    def __init__(
        self,
        reference: Reference,
        http: HttpSettings | None = None,
        *,
        push: bool = False,
        siblings: Sequence[str] = (),
    ) -> None:
        """Ask nobody yet.

        Args:
            reference: names the repository.
            http: how to ask.
            push: whether anything is to be written.
            siblings: other repositories of the same registry that are to be read too.
        """
        self.reference = reference
        self._client = Client(http or settings())
        actions = "pull,push" if push else "pull"
        scopes = [f"repository:{reference.repository}:{actions}"]
        scopes += [f"repository:{sibling}:pull" for sibling in siblings if sibling != reference.repository]
        self._authorization = Authorization(reference, scopes, self._client)
        self._base = ""
        self._lock = threading.Lock()

    def connect(self) -> str:
        """The registry's address, `https://host`; asked for only once.

        One on this machine is spoken to in plain http, unless it answers in https only.

        Raises:
            ImageError: No registry answers there.
        """
        with self._lock:
            if not self._base:
                self._base = self._find()
            return self._base

    def has_blob(self, digest: str, repository: str = "") -> bool:
        """Whether the repository, or another one on this registry, has that blob."""
        where = f"{repository or self.reference.repository}/blobs/{digest}"
        with self.ask(
            "HEAD", where, f"the blob {digest}", (200, 404) if not repository else (200, 401, 403, 404)
        ) as answer:
            return answer.status == 200

    def blob(self, descriptor: Descriptor) -> RemoteBlob:
        """A blob, to be read from there whenever it is wanted."""
        return RemoteBlob(descriptor, self.open_blob, self.reference)

    def open_blob(self, digest: str, offset: int) -> Answer:
        """The blob's bytes from there on (206), or all of them (200)."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        where = f"{self.reference.repository}/blobs/{digest}"
        return self.ask("GET", where, f"the blob {digest}", (200, 206) if offset else (200,), headers)

    def manifest_digest(self, target: str) -> str:
        """The digest of the manifest with that tag or digest; "" if there is none, or the registry does not say."""
        where = f"{self.reference.repository}/manifests/{target}"
        with self.ask("HEAD", where, f"the image {target}", (200, 404), {"Accept": ", ".join(_READABLE)}) as answer:
            return answer.headers.get(_DIGEST_HEADER, "") if answer.status == 200 else ""

    def manifest(self, target: str) -> Bytes:
        """The manifest, or index, with that tag or digest.

        Raises:
            ImageError: There is none, or it is not what it should be.
        """
        what = f"the image {self.reference.name}{'@' if ':' in target else ':'}{target}"
        where = f"{self.reference.repository}/manifests/{target}"
        with self.ask("GET", where, what, (200,), {"Accept": ", ".join(_READABLE)}) as answer:
            content = answer.content(_MOST_MANIFEST + 1)
            named = target if ":" in target else answer.headers.get(_DIGEST_HEADER, "")
            type_ = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        if len(content) > _MOST_MANIFEST:
            raise damaged(self.reference, what, f"its manifest is larger than {_MOST_MANIFEST >> 20} MiB")
        digest = digest_of(content)
        if named.startswith("sha256:") and named != digest:
            raise damaged(self.reference, what, f"its digest is {digest}, and not {named}")
        return Bytes(Descriptor(_media_type(content) or type_, digest, len(content)), content)

    def put_manifest(self, content: bytes, target: str) -> str:
        """Write a manifest or an index, under a tag or by its own digest; its digest.

        All that it names must be there already. One with a `subject` is a referrer of that.

        Raises:
            ImageError: The registry does not take it, or takes it for something else.
        """
        headers = {"Content-Type": _media_type(content) or MANIFEST}
        where = f"{self.reference.repository}/manifests/{target}"
        with self.ask("PUT", where, f"the manifest {target}", (201,), headers, content) as answer:
            return self.acknowledged(answer, digest_of(content))

    def acknowledged(self, answer: Answer, digest: str) -> str:
        """That digest, which a registry repeats, if it repeats any."""
        said = answer.headers.get(_DIGEST_HEADER, digest)
        if said.startswith("sha256:") and said != digest:
            raise damaged(self.reference, "its receipt", f"it is for {said}, and not for {digest}")
        return digest

    def ask(
        self,
        method: str,
        where: str,
        what: str,
        hoped: Container[int],
        headers: Mapping[str, str] | None = None,
        body: Body | bytes | None = None,
    ) -> Answer:
        """An answer with one of the statuses that were hoped for. Close it.

        Failures that may pass are tried again, except where a body is sent that is not in memory.

        Args:
            method: as HTTP calls it.
            where: a path below `/v2/`, or an address that the registry gave us.
            what: what it is about, for messages.
            hoped: the statuses.
            headers: of the request.
            body: what is sent.

        Raises:
            ImageError: There is no such answer.
        """
        url = where if "://" in where else f"{self.connect()}/v2/{where}"
        tries = TRIES if body is None or isinstance(body, bytes) else 1
        for tried in range(tries):
            try:
                return self._hoped(self._let_in(method, url, headers or {}, body), what, hoped)
            except RegistryError as error:
                if tried + 1 == tries or not error.passes:
                    raise
                wait_before(tried, error.wait)
        raise AssertionError("the last try ends it")

    def _hoped(self, answer: Answer, what: str, hoped: Container[int]) -> Answer:
        if answer.status in hoped:
            return answer
        with answer:
            try:
                body = answer.content(_MOST_ERROR)
            except RegistryError:
                body = b""  # the status says enough
            raise refused(self.reference, what, answer.status, body, answer.retry_after)

    def _let_in(self, method: str, url: str, headers: Mapping[str, str], body: Body | bytes | None) -> Answer:
        """The answer, with a login or a new token where that is wanted."""
        sent = ""
        for _ in range(_LOGINS):
            authorization = self._authorization.header(sent)
            answer = self._follow(method, url, headers, body, authorization)
            wanted = answer.headers.get("WWW-Authenticate", "")
            final = authorization and (authorization == sent or _TOO_LITTLE in wanted)
            if answer.status != 401 or not wanted or final or not self._is_ours(answer.url):
                return answer
            with answer:
                self._authorization.challenged(answer.url, wanted)
            sent = authorization
        return self._follow(method, url, headers, body, self._authorization.header(sent))

    def _follow(
        self, method: str, url: str, headers: Mapping[str, str], body: Body | bytes | None, authorization: str
    ) -> Answer:
        """The answer of whoever has it. Only the registry itself is told who we are."""
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._client.ask(method, url, headers, body, authorization if self._is_ours(url) else "")
            if not answer.is_redirect or body is not None:
                return answer
            url = urljoin(url, answer.headers["Location"])
            answer.close()
        raise RegistryError(f"{shown(url)} redirects more than {MAX_REDIRECTS} times")

    def _is_ours(self, url: str) -> bool:
        return _origin(url) == _origin(self._base)

    def _find(self) -> str:
        host = self.reference.api_host
        if self.reference.is_loopback:
            try:
                if self._answers(f"http://{host}"):
                    return f"http://{host}"
            except RegistryError:
                pass  # it may speak https only; if not, that failure says the same
        if self._answers(f"https://{host}"):
            return f"https://{host}"
        raise ImageError(f"{self.reference.host} is no registry", "see that the host and the port are right")

    def _answers(self, base: str) -> bool:
        """Whether a registry does; what it wants to be told of us is kept."""
        for tried in range(TRIES):
            with self._client.ask("GET", f"{base}/v2/", {}) as answer:
                if answer.status == 401:
                    self._authorization.challenged(answer.url, answer.headers.get("WWW-Authenticate", ""))
                if answer.status in (200, 401):
                    return True
                error = refused(self.reference, "a first question", answer.status, b"", answer.retry_after)
            if not error.passes:
                return False
            if tried + 1 < TRIES:
                wait_before(tried, error.wait)
        raise error


def _origin(url: str) -> tuple[str, str | None, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def _media_type(manifest: bytes) -> str:
    """What a manifest says that it is; "" if it says nothing."""
    try:
        return str(json.loads(manifest).get("mediaType") or "")
    except (ValueError, AttributeError):
        return ""
