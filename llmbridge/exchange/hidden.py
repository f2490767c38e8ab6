"""What was hidden in answers that clients will bring back, for as long as there is room.

A client that gets calls of its own tools comes back with them, and the model has to find again what it asked of the
bridge's tools before and beside them. When it is no longer known (a restart, another process, too much since) the
conversation goes on as the client tells it, and the model may ask for the bridge's tools again.
"""

import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from threading import Lock

from llmbridge.wire.tool_turns import Hidden


@dataclass(frozen=True, slots=True)
class _Kept:
    hidden: Hidden
    after: bytes | None
    keys: tuple[tuple[str, str], ...]
    size: int


class HiddenRounds:
    """A memory of `limit_bytes`: the oldest go first. Ids are looked up per owner, whose conversations they are."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._kept: OrderedDict[int, _Kept] = OrderedDict()
        self._numbers: dict[tuple[str, str], list[int]] = {}
        self._next = 0
        self._size = 0
        self._lock = Lock()

    def __repr__(self) -> str:
        return f"HiddenRounds({len(self._kept)} answers, {self._size:,} bytes)"

    def keep(self, owner: str, ids: Sequence[str], after: bytes | None, hidden: Hidden) -> None:
        """Remember what an answer with these ids hides, told after words of this digest."""
        keys = tuple((owner, id) for id in dict.fromkeys(ids) if id)
        if not keys:
            return
        size = sum(len(json.dumps(item, default=str)) for item in (*hidden.turns, *hidden.results))
        with self._lock:
            number, self._next = self._next, self._next + 1
            self._kept[number] = _Kept(hidden, after, keys, size)
            self._size += size
            for key in keys:
                self._numbers.setdefault(key, []).append(number)
            while self._size > self._limit:
                self._forget()

    def find(
        self, owner: str, ids: Sequence[str], after: Callable[[], bytes] | None
    ) -> Hidden | None:
        """What is hidden in the answer with one of these ids. Ids need not be unique: the words before must be the same."""
        with self._lock:
            known = [
                (number, self._kept[number])
                for id in ids
                for number in self._numbers.get((owner, id), ())
            ]
        for number, kept in sorted(known, key=itemgetter(0), reverse=True):
            if after is None or after() == kept.after:
                with self._lock:
                    if number in self._kept:
                        self._kept.move_to_end(number)
                return kept.hidden
        return None

    def _forget(self) -> None:
        number, kept = self._kept.popitem(last=False)
        self._size -= kept.size
        for key in kept.keys:
            left = self._numbers[key]
            left.remove(number)
            if not left:
                del self._numbers[key]
