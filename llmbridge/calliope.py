"""A client of Calliope's proxy, as the editor's extension speaks to it.

Source: the `ContinueProxy` client of continuedev/continue, which Calliope's is made from.
"""

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Self
from urllib.parse import urljoin

import httpx2

from llmbridge.errors import UpstreamError
from llmbridge.wire.calliope import PROVIDER, proxied_model, read_web_items, scores_of, timestamp
from llmbridge.wire.loose_json import is_object, objects, text
from llmbridge.wire.sse import SSEDecoder

MAX_TOKENS = 4096
BATCH = 64
URL_VARIABLE = "CALLIOPE_PROXY_URL"
"""The one switch for every client that is not told where the proxy is."""
CANCELLED = 499


class CalliopeProxy:
    """Chat, completions, embeddings, reranks, search and crawl through a proxy that keeps the keys.

    `model` is `owner/package/provider/model`. `api_key_location` says where the proxy finds the key; `token` is the access
    token of the control plane. Without `proxy_url` the variable `CALLIOPE_PROXY_URL` says it, for all. `on_prem_proxy_url`
    serves the models instead of `proxy_url` where it is given. `client` may be an `httpx2.Client` of your own, such as one
    on a bridge's transport.

    Search and crawl send `key`. Left out it is the token, but not where the models are served elsewhere: a token goes to
    one place.
    """

    def __init__(  # noqa: PLR0913  # what a model's configuration has
        self,
        model: str,
        *,
        proxy_url: str | None = None,
        token: str = "",
        api_key_location: str = "",
        api_base: str | None = None,
        org_scope_id: str | None = None,
        env: Mapping[str, Any] | None = None,
        on_prem_proxy_url: str | None = None,
        key: str = "",
        extension_version: str = "0.0.0",
        unique_id: str = "None",
        client: httpx2.Client | None = None,
    ) -> None:
        self.model = model
        proxy_url = proxy_url or os.environ.get(URL_VARIABLE) or "http://localhost:3000/"
        self._proxy_url = _with_slash(proxy_url)
        self._models_url = urljoin(_with_slash(on_prem_proxy_url or proxy_url), "model-proxy/v1/")
        self._token = token
        told = {"apiKeyLocation": api_key_location, "apiBase": api_base, "env": env}
        self._properties: dict[str, Any] = {k: v for k, v in told.items() if v is not None}
        self._properties["orgScopeId"] = org_scope_id
        self._key = key or ("" if on_prem_proxy_url else token)
        self._version, self._unique_id = extension_version, unique_id
        self._client = client or httpx2.Client(timeout=httpx2.Timeout(30, read=None))

    @classmethod
    def of(cls, config: Mapping[str, Any], **options: Any) -> Self:
        """The client of a model's configuration, as editors have it: provider, model, apiKey or apiKeyLocation, ...

        Raises:
            ValueError: the model has a key of its own, so that its provider can be asked without a proxy.
        """
        said = proxied_model(config)
        if said.get("provider") != PROVIDER:
            raise ValueError(
                f"the model {said.get('model')!r} is no {PROVIDER}'s: its key is no secret of the proxy"
            )
        told: dict[str, Any] = {
            "api_key_location": said.get("apiKeyLocation") or "",
            "api_base": said.get("apiBase"),
            "org_scope_id": said.get("orgScopeId"),
            "env": said.get("env"),
            "on_prem_proxy_url": said.get("onPremProxyUrl"),
        }
        return cls(str(said["model"]), **{**told, **options})

    def __repr__(self) -> str:
        return f"CalliopeProxy({self.model!r}, {self._models_url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the HTTP client."""
        self._client.close()

    # Models

    def chat(self, messages: Sequence[Mapping[str, Any]], **options: Any) -> str:
        """The whole answer; it is streamed on the way, as the extension always does."""
        return "".join(self.stream_chat(messages, **options))

    def stream_chat(self, messages: Sequence[Mapping[str, Any]], **options: Any) -> Iterator[str]:
        """The answer's text, piece by piece.

        Raises:
            UpstreamError: the proxy refused, or the answer broke off.
        """
        body = {"messages": list(messages), "max_tokens": MAX_TOKENS, **options, "stream": True}
        for chunk in self._chunks("chat/completions", body):
            yield _said(chunk)

    def complete(self, prompt: str, **options: Any) -> str:
        """What comes after the prompt."""
        answer = self._posted(
            "completions", {"prompt": prompt, "max_tokens": MAX_TOKENS, **options}
        )
        return "".join(choice.get("text") or "" for choice in objects(answer.get("choices")))

    def stream_fim(self, prefix: str, suffix: str, **options: Any) -> Iterator[str]:
        """What belongs between prefix and suffix, piece by piece.

        Raises:
            UpstreamError: the proxy refused, or the answer broke off.
        """
        body = {"prompt": prefix, "suffix": suffix, **options, "stream": True}
        for chunk in self._chunks("fim/completions", body):
            yield _said(chunk)

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """A vector for each text, in their order."""
        vectors: list[list[float]] = []
        for start in range(0, len(texts), BATCH):
            batch = list(texts[start : start + BATCH])
            answer = self._posted("embeddings", {"input": batch})
            vectors += [row["embedding"] for row in objects(answer.get("data"))]
        return vectors

    def rerank(self, query: str, documents: Sequence[str]) -> list[float]:
        """How well each document answers the query, in their order."""
        body = {"query": query, "documents": list(documents)}
        return scores_of(self._posted("rerank", body), len(documents))

    def models(self) -> list[str]:
        """The models that the proxy lists."""
        answer = self._asked("GET", self._models_url + "models", self._bearer())
        return [str(row.get("id")) for row in objects(_whole(answer, "models").get("data"))]

    # The web

    def headers(self) -> dict[str, str]:
        """The six fields that search and crawl ask for."""
        minute = time.localtime().tm_min
        return {
            "key": self._key or "none",
            "timestamp": timestamp(time.time_ns() // 1_000_000, minute),
            "v": "1",
            "extensionVersion": self._version,
            "os": sys.platform,
            "uniqueId": self._unique_id,
        }

    def web(self, query: str, n: int = 6) -> Sequence[dict[str, str]]:
        """Search results: title, description, content, url.

        Raises:
            UpstreamError: the proxy refused.
        """
        body = {"query": query, "n": n}
        answer = self._asked("POST", self._proxy_url + "web", self.headers(), body)
        if not answer.is_success:
            raise UpstreamError(f"Failed to fetch web context: {answer.text}")
        return read_web_items(_json(answer))

    def crawl(self, start_url: str, max_depth: int = 4, limit: int = 1000) -> list[dict[str, str]]:
        """Pages of a site: url, path, content.

        Raises:
            UpstreamError: the proxy refused.
        """
        body = {"startUrl": start_url, "maxDepth": max_depth, "limit": limit}
        answer = self._asked("POST", self._proxy_url + "crawl", self.headers(), body)
        if not answer.is_success:
            raise UpstreamError(f"Failed to crawl site ({answer.status_code}): {answer.text}")
        return [dict(page) for page in objects(_json(answer))]

    # On the wire

    def _bearer(self) -> dict[str, str]:
        if not self._token:
            return {}
        return {"authorization": f"Bearer {self._token}", "api-key": self._token}

    def _body(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return {"model": self.model, **body, "calliopeProperties": self._properties}

    def _asked(
        self, method: str, url: str, headers: Mapping[str, str], body: Any = None
    ) -> httpx2.Response:
        try:
            return self._client.request(method, url, headers=headers, json=body)
        except httpx2.HTTPError as error:
            raise UpstreamError(f"the proxy cannot be reached: {error}") from error

    def _posted(self, operation: str, body: Mapping[str, Any]) -> dict[str, Any]:
        url = self._models_url + operation
        answer = self._asked("POST", url, self._bearer(), self._body(body))
        return _whole(answer, operation)

    def _chunks(self, operation: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        url = self._models_url + operation
        asked = self._client.build_request(
            "POST", url, json=self._body(body), headers=self._bearer()
        )
        try:
            answer = self._client.send(asked, stream=True)
        except httpx2.HTTPError as error:
            raise UpstreamError(f"the proxy cannot be reached: {error}") from error
        with closing(answer):
            if answer.status_code == CANCELLED:
                return
            if not answer.is_success:
                answer.read()
                raise UpstreamError(f"the proxy answered {answer.status_code}: {answer.text}")
            ended = False
            # Read to the end of the connection, which is then free for the next call.
            for data in _data(answer):
                ended = ended or data == "[DONE]"
                if not ended:
                    yield _chunk(data)
        if not ended:
            raise UpstreamError("the answer stopped before its end")


def _data(answer: httpx2.Response) -> Iterator[str]:
    """The data of each event; of the last one also when nothing ends it, as the extension takes it."""
    sse = SSEDecoder()
    try:
        for piece in answer.iter_raw():
            for event in sse.feed(piece):
                yield event.data
    except httpx2.HTTPError as error:
        raise UpstreamError(f"the answer broke off: {error}") from error
    for event in sse.close():
        yield event.data


def _said(chunk: dict[str, Any]) -> str:
    deltas = [choice.get("delta") for choice in objects(chunk.get("choices"))]
    return "".join(text(delta.get("content")) for delta in deltas if is_object(delta))


def _chunk(data: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        raise UpstreamError(f"Malformed JSON sent from server: {data[:200]}") from None
    if not is_object(value):
        raise UpstreamError(f"Malformed JSON sent from server: {data[:200]}")
    if value.get("error"):
        raise UpstreamError(f"Error streaming response: {value['error']}")
    return value


def _whole(answer: httpx2.Response, operation: str) -> dict[str, Any]:
    if not answer.is_success:
        raise UpstreamError(f"{operation}: the proxy answered {answer.status_code}: {answer.text}")
    value = _json(answer)
    if not is_object(value):
        raise UpstreamError(f"{operation}: the proxy's answer is no JSON object")
    return value


def _json(answer: httpx2.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        raise UpstreamError(f"the proxy's answer is no JSON: {answer.text[:200]!r}") from None


def _with_slash(url: str) -> str:
    return url if url.endswith("/") else url + "/"
