"""Edits of a request that carry tools: offer them, tell the model what its calls came to, put back what was hidden.

All else in the body stays as the client sent it.
"""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from types import MappingProxyType
from typing import Any

from llmbridge.canon.messages import (
    Ask,
    Context,
    JsonObject,
    Text,
    ToolResult,
    ToolSpec,
    UserMessage,
)
from llmbridge.wire.anthropic_rounds import MessagesRounds
from llmbridge.wire.dialect import Dialect
from llmbridge.wire.error_bodies import dump
from llmbridge.wire.loose_json import is_list, is_object, objects, text
from llmbridge.wire.openai_chat_rounds import ChatRounds
from llmbridge.wire.openai_responses import flat_error
from llmbridge.wire.openai_responses_rounds import ResponseRounds
from llmbridge.wire.rounds import Rounds
from llmbridge.wire.sse import SSE

_TURNS: Mapping[str, str] = MappingProxyType(
    {"anthropic.messages": "messages", "openai.chat": "messages", "openai.responses": "input"}
)
"""Where a dialect keeps the conversation."""

_FORCED = ("required", "any")
_RESULTS = ("function_call_output", "custom_tool_call_output")


@dataclass(frozen=True, slots=True)
class Hidden:
    """What stands in place of an answer of ours when a client brings it back.

    `turns` is all that the model said and was told on the way, `results` what the last calls of ours came to,
    `response_id` the last of the provider's ids.
    """

    turns: tuple[JsonObject, ...]
    results: tuple[JsonObject, ...] = ()
    response_id: str | None = None


Find = Callable[[Sequence[str], Callable[[], bytes] | None], Hidden | None]
"""What was hidden in an answer with one of these ids, after these words of the user; None: they are not known here."""


def takes_tools(dialect: Dialect, body: JsonObject) -> bool:
    """True where these edits are known, and tools can be added: old `functions` go with no others."""
    return dialect.name in _TURNS and "functions" not in body


def rounds(dialect: Dialect, body: JsonObject, ours: Container[str]) -> Rounds:
    """Several answers to this question of a client as one."""
    match dialect.name:
        case "anthropic.messages":
            return MessagesRounds(ours)
        case "openai.chat":
            options = body.get("stream_options")
            wanted = is_object(options) and options.get("include_usage") is True
            return ChatRounds(ours, usage=wanted)
        case _:
            return ResponseRounds(ours)


def add_tools(dialect: Dialect, body: JsonObject, specs: Sequence[ToolSpec]) -> dict[str, Any]:
    """The body with these tools beside the client's own, always in the same order, so that prompt caches hold.

    Chat Completions are asked for one choice, and for the usage of a stream.
    """
    ordered = tuple(sorted(specs, key=lambda spec: spec.name))
    added = dialect.encode_request(Ask(context=Context(tools=ordered)))["tools"]
    theirs = body.get("tools")
    own = theirs if is_list(theirs) else []
    # Anthropic's clients mark the last of their tools as the end of a cached prefix: nothing may come after it.
    first = dialect.name == "anthropic.messages"
    more: dict[str, Any] = {**body, "tools": [*added, *own] if first else [*own, *added]}
    if dialect.name == "openai.chat":
        if more.get("n") not in (None, 1):
            more["n"] = 1
        if more.get("stream") is True:
            options = more.get("stream_options")
            kept = options if is_object(options) else {}
            more["stream_options"] = {**kept, "include_usage": True}
    return more


def add_turn(
    dialect: Dialect, body: JsonObject, said: Sequence[JsonObject], results: Sequence[JsonObject]
) -> dict[str, Any]:
    """The body with what the assistant said and what its calls came to at the end of the conversation.

    A choice that forces a call is let go, since a call was made: it would be forced for ever.
    """
    key = _TURNS[dialect.name]
    before = body.get(key)
    if isinstance(before, str):
        before = [{"role": "user", "content": before}]
    turns = [*(before if is_list(before) else []), *tellable(body, said), *results]
    if body.get("conversation") and dialect.name == "openai.responses":
        # The provider has kept what was asked and said before.
        turns = [*results]
    longer: dict[str, Any] = {**body, key: turns}
    choice = body.get("tool_choice")
    if choice in _FORCED:
        longer["tool_choice"] = "auto"
    elif is_object(choice) and choice.get("type") in _FORCED:
        longer["tool_choice"] = {**choice, "type": "auto"}
    return longer


def encode_results(dialect: Dialect, results: Sequence[ToolResult]) -> list[JsonObject]:
    """What the calls came to, as a request tells it."""
    encoded = dialect.encode_request(Ask(context=Context(messages=tuple(results))))
    told: list[JsonObject] = encoded[_TURNS[dialect.name]]
    return told


def tellable(body: JsonObject, said: Sequence[JsonObject]) -> list[JsonObject]:
    """What was said, without reasoning that a provider which keeps nothing could not know again."""
    if body.get("store") is not False:
        return list(said)
    return [
        item
        for item in said
        if item.get("type") != "reasoning" or item.get("encrypted_content") is not None
    ]


class Spoken:
    """The words of the user and of tools in a conversation, as digests of its beginnings: by them it is known again.

    Most conversations hide nothing, and long ones are told with every request: no item is read before it must be, or twice.
    """

    def __init__(self, dialect: Dialect, items: Sequence[JsonObject]) -> None:
        self._dialect = dialect
        self._items = items
        self._words = sha256()
        self._digests = [self._words.digest()]

    def before(self, place: int) -> bytes:
        """The digest of the words of so many items."""
        for item in self._items[len(self._digests) - 1 : place]:
            for words in self._told(item):
                self._words.update(dump(words))
            self._digests.append(self._words.digest())
        return self._digests[place]

    def _told(self, item: JsonObject) -> Iterator[str]:
        ask = self._dialect.decode_request({_TURNS[self._dialect.name]: [item]})
        for message in ask.context.messages:
            if isinstance(message, UserMessage | ToolResult):
                yield from (part.text for part in message.content if isinstance(part, Text))


def asked(dialect: Dialect, body: JsonObject) -> bytes | None:
    """The digest of all that a request tells; None where the provider keeps the conversation."""
    if body.get("previous_response_id") or body.get("conversation"):
        return None
    value = body.get(_TURNS[dialect.name])
    items = [{"role": "user", "content": value}] if isinstance(value, str) else objects(value)
    return Spoken(dialect, items).before(len(items))


def error_event(dialect: Dialect, body: JsonObject, last: bytes) -> SSE:
    """A provider's error, as its body tells it, as the event that ends a stream after these bytes."""
    match dialect.name:
        case "anthropic.messages":
            return SSE("error", dump(body).decode())
        case "openai.chat":
            return SSE(data=dump(body).decode())
        case _:
            return SSE("error", dump(flat_error(body["error"], last)).decode())


def answered_call(dialect: Dialect, body: JsonObject) -> str | None:
    """The call of an earlier answer whose result the end of this request brings; of several the last."""
    items = objects(body.get(_TURNS.get(dialect.name, "")))
    last = items[-1] if items else {}
    match dialect.name:
        case "anthropic.messages":
            blocks = [b for b in objects(last.get("content")) if b.get("type") == "tool_result"]
            ids = [text(block.get("tool_use_id")) for block in blocks]
        case "openai.chat":
            ids = [text(last.get("tool_call_id"))] if last.get("role") == "tool" else []
        case _:
            ids = [text(last.get("call_id"))] if last.get("type") in _RESULTS else []
    return next((id for id in reversed(ids) if id), None)


def put_back(dialect: Dialect, body: JsonObject, find: Find) -> JsonObject:
    """The body with what was hidden in the answers that the client brings back."""
    earlier = find([text(body.get("previous_response_id"))], None)
    if earlier is not None and earlier.response_id:
        body = {**body, "previous_response_id": earlier.response_id}
    items = body.get(_TURNS[dialect.name])
    if not is_list(items) or not all(is_object(item) for item in items):
        return body
    told = {
        "anthropic.messages": _to_messages,
        "openai.chat": _to_chat,
        "openai.responses": _to_input,
    }[dialect.name](Spoken(dialect, items), items, find)
    longer = list(told)
    return body if longer == items else {**body, _TURNS[dialect.name]: longer}


def _to_messages(spoken: Spoken, items: list[JsonObject], find: Find) -> Iterator[JsonObject]:
    """Results of one turn belong in one message, and to its beginning."""
    results: list[JsonObject] = []
    for place, item in enumerate(items):
        if item.get("role") == "user" and results:
            content = item.get("content")
            own = [{"type": "text", "text": content}] if isinstance(content, str) else content
            item, results = {**item, "content": [*results, *objects(own)]}, []
        blocks = objects(item.get("content")) if item.get("role") == "assistant" else []
        calls = {
            text(block.get("id")): block for block in blocks if block.get("type") == "tool_use"
        }
        hidden = _found(spoken, place, [*calls], find)
        if hidden is None:
            yield item
            continue
        *before, last = hidden.turns
        yield from before
        # The client may have marked its own call as the end of a cached prefix.
        said = [calls.get(text(block.get("id")), block) for block in objects(last["content"])]
        yield {**last, "content": said}
        results = [block for message in hidden.results for block in message["content"]]
    if results:
        yield {"role": "user", "content": results}


def _to_chat(spoken: Spoken, items: list[JsonObject], find: Find) -> Iterator[JsonObject]:
    for place, item in enumerate(items):
        ids = [text(call.get("id")) for call in objects(item.get("tool_calls"))]
        hidden = _found(spoken, place, ids, find)
        if hidden is None:
            yield item
        else:
            yield from hidden.turns
            yield from hidden.results


def _to_input(spoken: Spoken, items: list[JsonObject], find: Find) -> Iterator[JsonObject]:
    """All items of one answer stand in a row; where the provider keeps them, only results come."""
    place, called = 0, set[str]()
    while place < len(items):
        end = place
        while end < len(items) and _is_said(items[end]):
            end += 1
        run, item = items[place:end], items[place]
        ids = [text(each.get(key)) for each in run for key in ("id", "call_id")]
        called.update(ids)
        if run:
            hidden = _found(spoken, place, [id for id in ids if id], find)
            yield from run if hidden is None else (*hidden.turns, *hidden.results)
            place = end
            continue
        if item.get("type") in _RESULTS and (id := text(item.get("call_id"))) not in called:
            hidden = find([id], None)
            called.update(text(turn.get("call_id")) for turn in (hidden.turns if hidden else ()))
            yield from hidden.results if hidden else ()
        yield item
        place += 1


def _found(spoken: Spoken, place: int, ids: Sequence[str], find: Find) -> Hidden | None:
    return find(ids, partial(spoken.before, place)) if ids else None


def _is_said(item: JsonObject) -> bool:
    """True for what a model said."""
    if item.get("type", "message") == "message":
        return item.get("role") == "assistant"
    kind = text(item.get("type"))
    return not kind.endswith(("_output", "_response"))
