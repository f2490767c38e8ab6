"""A request body as it is compared: one spelling, without defaults and without what varies between runs.

Source: the API references of Anthropic, OpenAI and Google, which name the defaults.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import msgspec

from llmbridge.canon.strict_json import loads_strict
from llmbridge.wire.loose_json import in_camel, is_list, is_object, objects

_LARGEST_EXACT = 2.0**53
_MISSING = object()


@dataclass(frozen=True, slots=True)
class BodyRules:
    """What does not tell two requests of a dialect apart.

    `volatile` keys say who asks, or how the answer is cached and sent. A key of `defaults` may as well be left out.
    `mend` takes caching marks out of the body and gives the ids of tool calls names of their own.
    """

    volatile: frozenset[str]
    defaults: Mapping[str, object]
    mend: Callable[[dict[str, Any]], None] | None = None

    def apply(self, body: dict[str, Any]) -> dict[str, Any]:
        """The body without them; what is inside it is changed in place."""
        kept = {
            key: value
            for key, value in body.items()
            if value is not None
            and key not in self.volatile
            and not _is_same(value, self.defaults.get(key, _MISSING))
        }
        if self.mend is not None:
            self.mend(kept)
        return kept


def read_body(body: bytes) -> Any:
    """The JSON value of a body: 1.0 is 1, of equal keys the last wins.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return _decode(body)
    except ValueError:
        # Half of a surrogate pair is refused above, and mended here.
        return _decode(json.dumps(loads_strict(body)))
    except RecursionError:
        raise ValueError("the JSON is nested too deep") from None


def spell(value: Any) -> bytes:
    """One spelling for each JSON value."""
    return _encode(value)


def _number(text: str) -> object:
    number = float(text)
    if abs(number) < _LARGEST_EXACT:
        return int(number) if number.is_integer() else number
    return text


_decode: Callable[[bytes | str], Any] = msgspec.json.Decoder(object, float_hook=_number).decode
_encode = msgspec.json.Encoder(order="deterministic").encode


def _is_same(value: object, default: object) -> bool:
    # To Python, True is 1.
    return value == default and type(value) is type(default)


class _Names:
    """Names for the ids of tool calls, by the order in which they appear."""

    __slots__ = ("_names",)

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def give(self, holder: dict[str, Any], key: str) -> None:
        """Put a name in the place of the id, where there is one."""
        id = holder.get(key)
        if isinstance(id, str):
            holder[key] = self._names.setdefault(id, f"call {len(self._names)}")


def _mend_chat(body: dict[str, Any]) -> None:
    names = _Names()
    for message in objects(body.get("messages")):
        for call in objects(message.get("tool_calls")):
            names.give(call, "id")
        names.give(message, "tool_call_id")


def _mend_responses(body: dict[str, Any]) -> None:
    names = _Names()
    for item in objects(body.get("input")):
        if "call_id" in item:
            names.give(item, "call_id")
            names.give(item, "id")


def _mend_messages(body: dict[str, Any]) -> None:
    names = _Names()
    for holder in (*objects(body.get("system")), *objects(body.get("tools"))):
        holder.pop("cache_control", None)
    for message in objects(body.get("messages")):
        for block in _blocks(message):
            block.pop("cache_control", None)
            names.give(block, "tool_use_id")
            if str(block.get("type")).endswith("tool_use"):
                names.give(block, "id")


def _mend_gemini(body: dict[str, Any]) -> None:
    names = _Names()
    # Google reads both spellings of its keys, and its SDK has written both.
    _respell(body)
    for holder in (body.get("generationConfig"), *objects(body.get("tools"))):
        _respell(holder)
    for content in objects(body.get("contents")):
        for part in objects(content.get("parts")):
            _respell(part)
            for kind in ("functionCall", "functionResponse"):
                if is_object(part.get(kind)):
                    names.give(part[kind], "id")


def _respell(holder: object) -> None:
    if is_object(holder):
        respelled = in_camel(holder)
        holder.clear()
        holder.update(respelled)


def _blocks(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The content blocks, and those inside tool results."""
    content = message.get("content")
    if is_list(content):
        for block in content:
            if is_object(block):
                yield block
                yield from objects(block.get("content"))


_OPENAI_VOLATILE = frozenset(
    {
        "metadata",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "stream_options",
        "user",
    }
)

RULES: Mapping[str, BodyRules] = MappingProxyType(
    {
        "anthropic.messages": BodyRules(
            frozenset({"cache_control", "metadata"}),
            {"stream": False, "temperature": 1, "tool_choice": {"type": "auto"}},
            _mend_messages,
        ),
        "anthropic.count_tokens": BodyRules(
            frozenset({"cache_control", "metadata"}), {}, _mend_messages
        ),
        "openai.chat": BodyRules(
            _OPENAI_VOLATILE,
            # No temperature: other hosts that speak this have another default.
            {
                "frequency_penalty": 0,
                "logprobs": False,
                "n": 1,
                "parallel_tool_calls": True,
                "presence_penalty": 0,
                "response_format": {"type": "text"},
                "store": False,
                "stream": False,
                "tool_choice": "auto",
                "top_p": 1,
            },
            _mend_chat,
        ),
        "openai.responses": BodyRules(
            _OPENAI_VOLATILE,
            {
                "background": False,
                "parallel_tool_calls": True,
                "store": True,
                "stream": False,
                "temperature": 1,
                "text": {"format": {"type": "text"}},
                "tool_choice": "auto",
                "top_p": 1,
                "truncation": "disabled",
            },
            _mend_responses,
        ),
        "google.gemini": BodyRules(
            frozenset({"labels"}),
            {"toolConfig": {"functionCallingConfig": {"mode": "AUTO"}}},
            _mend_gemini,
        ),
        "openai.completions": BodyRules(
            frozenset({"stream_options", "user"}), {"echo": False, "n": 1, "stream": False}
        ),
        "openai.embeddings": BodyRules(frozenset({"user"}), {"encoding_format": "float"}),
    }
)
"""By dialect; a body of another dialect is compared whole."""
