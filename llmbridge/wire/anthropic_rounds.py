"""Several answers of Anthropic Messages as one.

The client hears the first `message_start`, the blocks of all rounds numbered through, and one end with the usage of all.
"""

from collections.abc import Container
from typing import Any

from llmbridge.canon.messages import JsonObject
from llmbridge.canon.strict_json import loads_strict
from llmbridge.wire.anthropic_messages import ANTHROPIC_MESSAGES
from llmbridge.wire.error_bodies import dump
from llmbridge.wire.fast_json import loads_object
from llmbridge.wire.loose_json import is_list, is_object, objects, text
from llmbridge.wire.rounds import AS_IT_CAME, ENDING, Heard, Shown, added, spelled
from llmbridge.wire.sse import SSE

_GROWS = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "signature",
    "input_json_delta": "partial_json",
}


class MessagesRounds:
    """One message made of several."""

    heard: Heard
    hides: bool

    def __init__(self, ours: Container[str]) -> None:
        self._ours = ours
        self._rounds = 0
        self._next = 0
        self._before: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._visible: list[JsonObject] = []
        self._last: dict[str, Any] = {}
        self._id: Any = None

    def begin(self) -> None:
        """The next round comes."""
        self._before = added(self._before, self._usage)
        self._rounds += 1
        self._usage = {}
        self._places: dict[Any, int | None] = {}
        self._content: list[dict[str, Any]] = []
        self._open: dict[Any, dict[str, Any]] = {}
        self._pieces: dict[Any, dict[str, list[str]]] = {}
        self.heard = Heard(ANTHROPIC_MESSAGES)
        self.hides = False

    def feed(self, sse: SSE) -> Shown:
        """One event."""
        self.heard.feed(sse)
        data = loads_object(sse.data)
        if not isinstance(data.get("index", 0), int):
            return AS_IT_CAME
        match data.get("type"):
            case "message_start":
                message = data.get("message")
                self._note(message.get("usage") if is_object(message) else None)
                return AS_IT_CAME if self._rounds == 1 else ()
            case "content_block_start":
                self._start(data)
                return self._placed(sse, data)
            case "content_block_delta":
                self._grow(data)
                return self._placed(sse, data)
            case "content_block_stop":
                self._stop(data.get("index"))
                return self._placed(sse, data)
            case "message_delta":
                self._note(data.get("usage"))
                if self._rounds == 1:
                    return ENDING
                return ((spelled(sse, {**data, "usage": self._sum()}), True),)
            case "message_stop":
                return ENDING
            case _:
                return AS_IT_CAME

    def whole(self, body: dict[str, Any]) -> None:
        """A message object."""
        self.heard.whole(dump(body))
        self._note(body.get("usage"))
        self._content = objects(body.get("content"))
        self._last = body
        self._id = self._id or body.get("id")
        for block in self._content:
            self._show(block)

    def answer(self) -> JsonObject:
        """The last message with the blocks of all rounds, the usage of all, and the first one's id."""
        return {**self._last, "id": self._id, "content": self._visible, "usage": self._sum()}

    def turn(self) -> list[JsonObject]:
        """One message of the assistant; the API takes no empty text."""
        for place in list(self._open):
            self._stop(place)
        said = [
            block for block in self._content if block.get("type") != "text" or block.get("text")
        ]
        return [{"role": "assistant", "content": said}]

    def names(self) -> list[str]:
        """The ids of the calls that the client sees."""
        return [text(block.get("id")) for block in self._visible if block.get("type") == "tool_use"]

    def _start(self, data: dict[str, Any]) -> None:
        block, index = data.get("content_block"), data.get("index")
        if is_object(block):
            self._open[index] = dict(block)
            self._pieces[index] = {}
            self._content.append(self._open[index])
            place: int | None = None
            if self._show(self._open[index]):
                # The provider's own number, until one of ours is missing before it.
                own = self._rounds == 1 and not self.hides and isinstance(index, int)
                place = int(index or 0) if own else self._next
                self._next = place + 1
            self._places[index] = place

    def _show(self, block: JsonObject) -> bool:
        """True for a block that the client sees."""
        if block.get("type") == "tool_use" and text(block.get("name")) in self._ours:
            self.hides = True
            return False
        self._visible.append(block)
        return True

    def _placed(self, sse: SSE, data: dict[str, Any]) -> Shown:
        index = data.get("index")
        place = self._places.get(index, index)
        if place is None:
            return ()
        return AS_IT_CAME if place == index else ((spelled(sse, {**data, "index": place}), False),)

    def _grow(self, data: dict[str, Any]) -> None:
        block, delta = self._open.get(data.get("index")), data.get("delta")
        if block is None or not is_object(delta):
            return
        kind = text(delta.get("type"))
        if key := _GROWS.get(kind):
            self._pieces[data.get("index")].setdefault(key, []).append(text(delta.get(key)))
        elif kind == "citations_delta":
            cited = block.get("citations")
            block["citations"] = [*(cited if is_list(cited) else ()), delta.get("citation")]

    def _stop(self, index: Any) -> None:
        block, pieces = self._open.pop(index, None), self._pieces.pop(index, {})
        if block is None:
            return
        written = "".join(pieces.pop("partial_json", ()))
        block |= {key: text(block.get(key)) + "".join(grown) for key, grown in pieces.items()}
        if not written:
            return
        try:
            given = loads_strict(written)
        except ValueError:
            given = None
        # What was cut short is not guessed; the call is told to the model as failed.
        block["input"] = given if is_object(given) else {}

    def _note(self, usage: Any) -> None:
        # message_delta restates message_start's numbers, sometimes with others: the last one counts.
        if is_object(usage):
            self._usage |= {key: value for key, value in usage.items() if value is not None}

    def _sum(self) -> dict[str, Any]:
        return added(self._before, self._usage)
