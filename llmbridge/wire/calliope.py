"""What Calliope's and Continue's clients say to their proxy beside Chat Completions: names, properties, headers, reranks.

Source: Calliope's proxy documentation, and the `ContinueProxy` client of continuedev/continue. No I/O.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmbridge.canon.messages import JsonObject
from llmbridge.errors import RequestError
from llmbridge.wire.loose_json import is_list, is_object, objects, text

PROVIDER = "calliope-proxy"
"""What a model's configuration has for its provider when the proxy is to be asked."""

_TEMPLATE = re.compile(r"\$\{\{\s*secrets\.([^\s{}]+)\s*\}\}")
_KINDS = (
    *("organization", "user", "package", "models_add_on", "free_trial", "local_env"),
    "not_found",
)

PROPERTIES = ("calliopeProperties", "continueProperties")
HEADERS = ("key", "timestamp", "v", "extensionversion", "os", "uniqueid")
"""The fields that `/web` and `/crawl` ask for, in the order in which missing ones are named."""


@dataclass(frozen=True, slots=True)
class ModelName:
    """`owner/package/provider/model`; owner and package are empty for models of a configuration file."""

    owner: str
    package: str
    provider: str
    model: str


def parse_model_name(name: str) -> ModelName:
    """The parts of a name; the model itself may hold slashes.

    Raises:
        RequestError: provider or model is missing.
    """
    owner, package, provider, model = (*name.split("/", 3), "", "", "", "")[:4]
    if not provider or not model:
        raise RequestError("Invalid model string format.")
    return ModelName(owner, package, provider, model)


def properties_of(body: JsonObject) -> dict[str, Any]:
    """What the client tells its proxy; empty where there is nothing."""
    for name in PROPERTIES:
        if is_object(held := body.get(name)):
            return held
    return {}


def without_properties(value: Any) -> Any:
    """The same JSON without such properties at any depth."""
    if is_object(value):
        return {
            name: without_properties(held) for name, held in value.items() if name not in PROPERTIES
        }
    return [without_properties(item) for item in value] if is_list(value) else value


def missing_headers(fields: Mapping[str, str]) -> list[str]:
    """The names of what `/web` and `/crawl` need and did not get."""
    return [name for name in HEADERS if not fields.get(name)]


def timestamp(now_ms: int, minute: int) -> str:
    """The client's time: milliseconds, their last two digits replaced by half the local minute and ten."""
    return f"{now_ms // 100}{minute // 2 + 10}"


def secret_name(location: str) -> tuple[str, str]:
    """The kind of a key's location, and the name of the secret: `env:NAME`, `organization:acme/NAME`, ..."""
    kind, _, path = location.partition(":")
    return kind, path.rpartition("/")[2]


def proxied_model(
    config: JsonObject, org_scope_id: str | None = None, on_prem_proxy_url: str | None = None
) -> dict[str, Any]:
    """A model's configuration, led to the proxy where its key is a secret that only the proxy can read.

    Such a key is a template, `${{ secrets.organization:acme/NAME }}`; any other configuration is given back as it is.

    Raises:
        ValueError: the template names no kind of secret that there is.
    """
    found = _TEMPLATE.fullmatch(text(config.get("apiKey")).strip())
    if found is None:
        return dict(config)
    kind = found[1].partition(":")[0]
    if kind not in _KINDS:
        raise ValueError(f"Invalid secret type: {kind}")
    rest = {name: value for name, value in config.items() if name != "apiKey"}
    name = config.get("model") if text(config.get("model")).count("/") > 2 else ""
    return {
        **rest,
        "provider": PROVIDER,
        "model": name or f"//{text(config.get('provider'))}/{text(config.get('model'))}",
        "apiKeyLocation": found[1],
        "orgScopeId": org_scope_id,
        "onPremProxyUrl": on_prem_proxy_url,
    }


def reranked(results: JsonObject, count: int) -> dict[str, Any]:
    """Cohere's results as the client reads them: a score for each of `count` documents, in their order."""
    scores = dict.fromkeys(range(count), 0.0)
    for each in objects(results.get("results", results.get("data"))):
        place, score = each.get("index"), each.get("relevance_score")
        if isinstance(place, int) and isinstance(score, int | float) and place in scores:
            scores[place] = score
    return {"data": [{"index": place, "relevance_score": s} for place, s in scores.items()]}


def web_item(title: str, content: str, url: str, description: str) -> dict[str, Any]:
    """A search result in the words of the documentation, of the real server and of the real client at once."""
    return {
        "name": title,
        "title": title,
        "description": description,
        "content": content,
        "url": url,
        "uri": {"type": "url", "value": url},
        "type": "web",
    }


def read_web_items(answer: Any) -> Sequence[dict[str, str]]:
    """Search results of any such server: title, description, content, url."""
    return [
        {
            "title": text(item.get("name")) or text(item.get("title")),
            "description": text(item.get("description")),
            "content": text(item.get("content")),
            "url": _url(item),
        }
        for item in objects(answer)
    ]


def _url(item: JsonObject) -> str:
    uri = item.get("uri")
    return text(item.get("url")) or text(uri.get("value") if is_object(uri) else uri)


def scores_of(answer: Any, count: int) -> list[float]:
    """The score of each document, in their order."""
    rows: Iterable[JsonObject] = reranked(answer if is_object(answer) else {}, count)["data"]
    return [row["relevance_score"] for row in rows]
