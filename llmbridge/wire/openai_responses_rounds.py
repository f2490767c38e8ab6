"""Several answers of OpenAI's Responses API as one.

The client hears one `response.created`, the items of all rounds numbered through, and one end with all of them and the
usage of all. A stream keeps the id with which it began, as SDKs insist; a whole answer has the last round's, from which
the provider goes on with `previous_response_id`.
"""

from collections.abc import Container
from typing import Any

from llmbridge.canon.messages import JsonObject
from llmbridge.wire.error_bodies import dump
from llmbridge.wire.fast_json import loads_object
from llmbridge.wire.loose_json import is_object, objects, text
from llmbridge.wire.openai_responses import OPENAI_RESPONSES
from llmbridge.wire.rounds import Heard, Shown, added, spelled
from llmbridge.wire.sse import SSE

_BEGINNINGS = ("response.created", "response.queued", "response.in_progress")
_ENDS = ("response.completed", "response.incomplete", "response.failed")


class ResponseRounds:
    """One response made of several."""

    heard: Heard
    hides: bool

    def __init__(self, ours: Container[str]) -> None:
        self._ours = ours
        self._rounds = 0
        self._before: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._visible: list[JsonObject] = []
        self._next = 0
        self._number = 0
        self._numbered_end = 0
        self._changed = False
        self._items: list[dict[str, Any]] = []
        self._last: dict[str, Any] = {}
        self._first_id = ""

    def begin(self) -> None:
        """The next round comes."""
        self._before = added(self._before, self._usage)
        self._visible = self._shown()
        self._rounds += 1
        self._changed = self._rounds > 1
        # The end of the round before was never shown.
        self._number -= self._numbered_end
        self._numbered_end = 0
        self._usage = {}
        self._items = []
        self._places: dict[Any, int | None] = {}
        self.heard = Heard(OPENAI_RESPONSES)
        self.hides = False

    def feed(self, sse: SSE) -> Shown:
        """One event."""
        self.heard.feed(sse)
        data = loads_object(sse.data)
        kind = text(data.get("type"))
        response = data.get("response")
        if is_object(response):
            self._first_id = self._first_id or text(response.get("id"))
        if kind in _BEGINNINGS:
            return self._told(sse, data, {}) if self._rounds == 1 else ()
        if kind in _ENDS:
            changes = self._end(response) if is_object(response) else {}
            return self._told(sse, data, changes, ending=True)
        if "output_index" not in data and "item_id" not in data and "item" not in data:
            # An error ends a response as well.
            return self._told(sse, data, {}, ending=kind == "error" or sse.data == "[DONE]")
        place = self._place(kind, data)
        if place is None:
            self._changed = True
            return ()
        index = data.get("output_index")
        moved = isinstance(index, int) and index != place
        return self._told(sse, data, {"output_index": place} if moved else {})

    def whole(self, body: dict[str, Any]) -> None:
        """A response object."""
        self.heard.whole(dump(body))
        self._take(body)
        self.hides = any(self._is_hidden(item) for item in self._items)

    def answer(self) -> JsonObject:
        """The last response with the items of all rounds and the usage of all."""
        usage = added(self._before, self._usage)
        return {**self._last, "output": self._shown(), **({"usage": usage} if usage else {})}

    def turn(self) -> list[JsonObject]:
        """The items of this round, as they came."""
        return list(self._items)

    def names(self) -> list[str]:
        """The ids of the stream and of the items and calls that the client sees."""
        ids = (text(item.get(key)) for item in self._shown() for key in ("id", "call_id"))
        return [id for id in (self._first_id, *ids) if id]

    def _place(self, kind: str, data: dict[str, Any]) -> int | None:
        """Where the client has the item that an event speaks of; None for a call that it never sees."""
        item, index = data.get("item"), data.get("output_index")
        key = index if isinstance(index, int) else text(data.get("item_id"))
        if is_object(item):
            key = index if isinstance(index, int) else text(item.get("id"))
            if kind.endswith(".done"):
                self._items.append(item)
            if kind.endswith(".added") or key not in self._places:
                self._places[key] = self._open(item, index)
        elif key not in self._places and kind.startswith("response.function_call_arguments."):
            # Whose call this is has not been said: the whole item comes at its end.
            return None
        return self._places.get(key, index if isinstance(index, int) else 0)

    def _open(self, item: JsonObject, index: Any) -> int | None:
        if self._is_hidden(item):
            self.hides = True
            return None
        # The provider's own number, until one of ours is missing before it.
        own = not self._changed and isinstance(index, int)
        place = index if own else self._next
        self._next = place + 1
        return place

    def _end(self, response: dict[str, Any]) -> dict[str, Any]:
        """What is changed in the event that ends a response."""
        self._take(response)
        self.hides = self.hides or any(self._is_hidden(item) for item in self._items)
        if not self._changed and not self.hides:
            return {}
        return {"response": {**self.answer(), "id": self._first_id}}

    def _take(self, response: dict[str, Any]) -> None:
        self._last = response
        if is_object(response.get("usage")):
            self._usage = response["usage"]
        # Some gateways leave the list empty at the end of a stream.
        self._items = objects(response.get("output")) or self._items

    def _told(
        self, sse: SSE, data: dict[str, Any], changes: dict[str, Any], *, ending: bool = False
    ) -> Shown:
        """The event with its changes and the next number of the client's stream, where that is not its own."""
        number = data.get("sequence_number")
        if isinstance(number, int):
            if not self._changed:
                self._number = number
            elif number != self._number:
                changes["sequence_number"] = self._number
            self._number += 1
            self._numbered_end += ending
        return ((spelled(sse, {**data, **changes}) if changes else None, ending),)

    def _shown(self) -> list[JsonObject]:
        """What the client sees of the rounds before and of this one."""
        return [*self._visible, *(item for item in self._items if not self._is_hidden(item))]

    def _is_hidden(self, item: JsonObject) -> bool:
        return item.get("type") == "function_call" and text(item.get("name")) in self._ours
