"""Several answers of OpenAI Chat Completions as one.

The client hears one role, the words and calls of all rounds, one finish reason, and the usage of all, if it asked for it.
"""

from collections.abc import Container, Sequence
from typing import Any

from llmbridge.canon.events import BlockDelta, BlockStart
from llmbridge.canon.messages import JsonObject, ToolCall
from llmbridge.wire.error_bodies import dump
from llmbridge.wire.fast_json import loads_object
from llmbridge.wire.loose_json import is_list, is_object, objects, text
from llmbridge.wire.openai_chat import OPENAI_CHAT
from llmbridge.wire.rounds import ENDING, Heard, Shown, added, is_ours, spelled
from llmbridge.wire.sse import SSE

_NOT_SAID = ("role", "tool_calls")
_NOT_GROWING = ("type", "id", "index", "name")


class ChatRounds:
    """One completion made of several; with `usage` the client asked for that of a stream."""

    heard: Heard
    hides: bool

    def __init__(self, ours: Container[str], *, usage: bool) -> None:
        self._ours = ours
        self._wants_usage = usage
        self._rounds = 0
        self._before: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._next = 0
        self._shown_calls: list[JsonObject] = []
        self._shown_words: dict[str, Any] = {}
        self._last: dict[str, Any] = {}
        self._id: Any = None

    def begin(self) -> None:
        """The next round comes."""
        self._before = added(self._before, self._usage)
        self._rounds += 1
        self._usage = {}
        self._words: list[JsonObject] = []
        self._calls: dict[int, list[JsonObject]] = {}
        self._places: dict[int, int | None] = {}
        self._at = 0
        self.heard = Heard(OPENAI_CHAT)
        self.hides = False

    def feed(self, sse: SSE) -> Shown:
        """One chunk."""
        if sse.data == "[DONE]":
            self.heard.feed(sse)
            return ENDING
        chunk = loads_object(sse.data)
        self._id = self._id or chunk.get("id")
        self._note(chunk)
        choice = _first_choice(chunk)
        delta = choice.get("delta")
        if not is_object(delta):
            self.heard.feed(sse)
            return self._told(sse, chunk, choice, {})
        self._words.append({key: delta[key] for key in delta if key not in _NOT_SAID})
        entries = objects(delta.get("tool_calls"))
        if not entries:
            self.heard.feed(sse)
            return self._told(sse, chunk, choice, delta)
        said = {key: value for key, value in delta.items() if key != "tool_calls"}
        self.heard.feed(spelled(sse, _with_choice(chunk, {**choice, "delta": said})))
        visible = [shown for entry in entries if (shown := self._entry(sse, choice, entry))]
        if visible == entries:
            return self._told(sse, chunk, choice, delta)
        fewer = {**said, "tool_calls": visible} if visible else said
        return self._told(sse, chunk, choice, fewer, changed=True)

    def whole(self, body: dict[str, Any]) -> None:
        """A completion object."""
        self.heard.whole(dump(body))
        self._last = body
        self._id = self._id or body.get("id")
        self._note(body)
        choice = _first_choice(body)
        said = choice.get("message")
        said = said if is_object(said) else {}
        self._words = [{key: value for key, value in said.items() if key not in _NOT_SAID}]
        self._shown_words = merged([self._shown_words, *self._words])
        for place, call in enumerate(objects(said.get("tool_calls"))):
            self._calls[place] = [call]
            if self._is_hidden(call):
                self.hides = True
            else:
                self._shown_calls.append(call)

    def answer(self) -> JsonObject:
        """The last completion with the words of all rounds, the usage of all, and the first one's id."""
        choice = _first_choice(self._last)
        message: dict[str, Any] = {"role": "assistant", **self._shown_words}
        if self._shown_calls:
            message["tool_calls"] = self._shown_calls
        body = _with_choice(self._last, {**choice, "message": message})
        usage = self._sum()
        return {**body, "id": self._id, **({"usage": usage} if usage else {})}

    def turn(self) -> list[JsonObject]:
        """One message of the assistant, in the host's own keys."""
        words = merged(self._words)
        said = {key: value for key, value in words.items() if value not in (None, "", [])}
        turn: dict[str, Any] = {"role": "assistant", "content": None, **said}
        turn.pop("index", None)
        if self._calls:
            turn["tool_calls"] = [merged(self._calls[place]) for place in sorted(self._calls)]
        return [turn]

    def names(self) -> list[str]:
        """The ids of the calls that the client sees."""
        return [text(call.get("id")) for call in self._shown_calls]

    def _entry(self, sse: SSE, choice: JsonObject, entry: dict[str, Any]) -> JsonObject | None:
        """One piece of a call as the client is to see it; the decoder knows to which call it belongs."""
        alone = {"index": choice.get("index"), "delta": {"tool_calls": [entry]}}
        for delta in self.heard.feed(spelled(sse, {"choices": [alone]})):
            match delta:
                case BlockStart(index, ToolCall() as call):
                    self._at = index
                    self._calls[index] = []
                    self._places[index] = self._place(call, entry)
                case BlockDelta(index):
                    self._at = index
                case _:
                    pass
        place = self._places.get(self._at)
        piece = {key: value for key, value in entry.items() if key != "index"}
        self._calls.setdefault(self._at, []).append(piece)
        if place is None:
            return None
        if entry.get("index", place) == place:
            return entry
        return {**entry, "index": place}

    def _place(self, call: ToolCall, entry: JsonObject) -> int | None:
        if is_ours(call, self._ours):
            self.hides = True
            return None
        self._shown_calls.append({"id": call.id})
        index = entry.get("index")
        # The provider's own number, until one of ours is missing before it.
        own = self._rounds == 1 and not self.hides and isinstance(index, int)
        place = int(index or 0) if own else self._next
        self._next = place + 1
        return place

    def _is_hidden(self, call: JsonObject) -> bool:
        function = call.get("function")
        return is_object(function) and text(function.get("name")) in self._ours

    def _told(
        self,
        sse: SSE,
        chunk: dict[str, Any],
        choice: dict[str, Any],
        delta: dict[str, Any],
        *,
        changed: bool = False,
    ) -> Shown:
        """The chunk for the client, cut where it says a last word and the end at once."""
        later, finishes = self._rounds > 1, bool(choice.get("finish_reason"))
        usage_hidden = not self._wants_usage and is_object(chunk.get("usage"))
        split = finishes and self.hides
        if not chunk or not (changed or later or usage_hidden or split):
            return ((None, bool(chunk) and (finishes or not choice)),)
        out = {**chunk, "id": self._id} if later and "id" in chunk else dict(chunk)
        if usage_hidden:
            del out["usage"]
        elif later:
            self._add_up(out)
        if not choice:
            # The chunk of the usage, or of an error.
            return ((spelled(sse, out), True),) if "usage" in out or "error" in out else ()
        delta = _without_beginning(delta) if later else delta
        shown: list[tuple[SSE | None, bool]] = []
        if delta and split:
            spoken = {key: value for key, value in out.items() if key != "usage"}
            word = {**choice, "delta": delta, "finish_reason": None}
            shown.append((spelled(sse, _with_choice(spoken, word)), False))
            delta = {}
        if delta or finishes or is_object(out.get("usage")):
            shown.append((spelled(sse, _with_choice(out, {**choice, "delta": delta})), finishes))
        return tuple(shown)

    def _note(self, chunk: JsonObject) -> None:
        inner = chunk.get("x_groq")
        usage = chunk.get("usage") or (inner.get("usage") if is_object(inner) else None)
        if is_object(usage):
            self._usage = usage

    def _add_up(self, out: dict[str, Any]) -> None:
        if is_object(out.get("usage")):
            out["usage"] = self._sum()
        inner = out.get("x_groq")
        if is_object(inner) and is_object(inner.get("usage")):
            out["x_groq"] = {**inner, "usage": self._sum()}

    def _sum(self) -> dict[str, Any]:
        return added(self._before, self._usage)


def merged(pieces: Sequence[JsonObject]) -> dict[str, Any]:
    """The pieces of a message as one: texts are joined, lists by the index of their items or one after the other."""
    whole: dict[str, Any] = {}
    for key in dict.fromkeys(key for piece in pieces for key in piece):
        values = [piece[key] for piece in pieces if piece.get(key) is not None]
        if key in _NOT_GROWING or len(values) < 2:
            told = [value for value in values if value]
            whole[key] = told[-1] if told else values[-1] if values else None
        elif all(isinstance(value, str) for value in values):
            whole[key] = "".join(values)
        elif all(is_object(value) for value in values):
            whole[key] = merged(values)
        elif any(is_list(value) for value in values):
            whole[key] = _listed([item for value in values for item in _parts(value)])
        else:
            whole[key] = values[-1]
    return whole


def _listed(items: Sequence[Any]) -> list[Any]:
    """The items, those of one index and type as one where the first of them stood."""
    same: dict[Any, list[Any]] = {}
    for place, item in enumerate(items):
        numbered = is_object(item) and item.get("index") is not None
        key = (str(item["index"]), str(item.get("type"))) if numbered else (None, place)
        same.setdefault(key, []).append(item)
    return [merged(group) if len(group) > 1 else group[0] for group in same.values()]


def _parts(value: Any) -> list[Any]:
    """Mistral sends strings and lists of parts in one stream."""
    if is_list(value):
        return value
    return [{"type": "text", "text": value}] if value else []


def _without_beginning(delta: JsonObject) -> dict[str, Any]:
    """A later round begins again with the role and an empty text, which SDKs would append."""
    return {
        key: value
        for key, value in delta.items()
        if key != "role" and not (key in ("content", "refusal") and not value)
    }


def _first_choice(chunk: JsonObject) -> dict[str, Any]:
    choices = objects(chunk.get("choices"))
    return choices[0] if choices else {}


def _with_choice(chunk: JsonObject, choice: JsonObject) -> dict[str, Any]:
    """The chunk with another first choice."""
    return {**chunk, "choices": [choice, *objects(chunk.get("choices"))[1:]]}
