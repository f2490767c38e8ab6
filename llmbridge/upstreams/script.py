"""Replies written by hand, in whichever dialect the client speaks, as a stream or whole."""

import inspect
import math
import re
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field, replace
from threading import RLock
from typing import Any

from llmbridge.canon.events import BlockDelta, Delta, Snapshot, unfold
from llmbridge.canon.messages import (
    Ask,
    AssistantMessage,
    JsonObject,
    Text,
    Thinking,
    ToolCall,
    Usage,
)
from llmbridge.errors import RequestError, ScriptExhausted, ScriptFailed
from llmbridge.exchange.call import Call, Headers, Reply, once
from llmbridge.exchange.failure import Failure
from llmbridge.exchange.json_array import as_array, wants_array
from llmbridge.exchange.json_body import json_body
from llmbridge.upstreams.deadlines import Deadlines, Tokens
from llmbridge.upstreams.embeddings import embed
from llmbridge.upstreams.lines import Cue, Line, Said, When, cue_of, reply
from llmbridge.upstreams.subset import difference
from llmbridge.wire.dialect import Dialect
from llmbridge.wire.opaque import OPENAI_EMBEDDINGS
from llmbridge.wire.sse import encode_sse

_WORD = re.compile(r"\s*\S+\s*$|\s*\S+|\s+")


@dataclass(slots=True)
class _Session:
    """How far one session is: answers given, and how often each cue was said."""

    answers: int = 0
    said: Counter[int] = field(default_factory=Counter[int])


class Script:
    """An upstream that says its lines in order, one for each call; the same ids and token counts every time.

    Rules (`when(...).say(...)`) come first, whenever they hold. Each session that clients name hears the script from its
    start. Replies come at once, or at the pace of `ttft` (seconds to the first token) and `tps` (tokens a second), which
    `jitter` (a seed) makes uneven. Tokens are words, since there is no tokenizer here. Embeddings need no line.

    Raises:
        ConfigurationError: something is no line, or a pace that cannot be.
    """

    spends_keys = False

    def __init__(
        self,
        *lines: Line | Cue | When,
        ttft: float = 0,
        tps: float | None = None,
        jitter: int | None = None,
    ) -> None:
        cues = [cue_of(line) for line in lines]
        self._cues = (*(cue for cue in cues if cue.when), *(cue for cue in cues if not cue.when))
        self._pace = Tokens(ttft, tps, jitter)
        self._sessions: dict[str | None, _Session] = {}
        self._asked: list[tuple[Ask, JsonObject]] = []
        self._lock = RLock()

    def __repr__(self) -> str:
        said = sum(session.said.total() for session in self._sessions.values())
        return f"Script({len(self._cues)} lines, {said} said)"

    @property
    def asked(self) -> tuple[Ask, ...]:
        """What clients asked so far, in order."""
        return tuple(ask for ask, _ in self._asked)

    @property
    def left(self) -> tuple[Line, ...]:
        """The lines still to be said, in every session that began; those without end are none of them."""
        with self._lock:
            sessions = [*self._sessions.values()] or [_Session()]
            return tuple(line for session in sessions for line in self._left(session))

    def assert_called_with(self, subset: JsonObject) -> None:
        """Check that the last request's JSON holds all this; lists are as long, and `...` stands for anything.

        Raises:
            AssertionError: it does not, or there was no request.
        """
        if not self._asked:
            raise AssertionError("the script was not asked")
        found = difference(subset, self._asked[-1][1])
        if found:
            raise AssertionError(f"the last request differs: {found}")

    async def __call__(self, call: Call) -> Reply:
        """The next line.

        Raises:
            ScriptExhausted: no line is left for this.
            ScriptFailed: a function in the script failed.
            RequestError: the endpoint cannot be scripted, or the body is no JSON object.
        """
        deadlines = Deadlines(self._pace)
        body = json_body(call.request)
        if call.dialect is OPENAI_EMBEDDINGS:
            self._asked.append((call.dialect.decode_request(body), body))
            await deadlines.head()
            return _whole(embed(body), {})
        ask = _ask(call, body)
        turn, line = self._next(call.request.caller.session_id, ask, body)
        said = await _answer(line, ask)
        await deadlines.head()
        if isinstance(said, Failure):
            return said.reply(call.dialect)
        message = _dress(reply(said) if isinstance(said, str) else said, ask, turn)
        names = {_id_field(call.dialect): f"req_{turn}"}
        if call.streaming:
            array = wants_array(call.dialect, call.target)
            kind = "application/json" if array else "text/event-stream"
            events = _stream(call.dialect, ask, message, deadlines)
            headers = Headers({"content-type": kind, **names})
            return Reply(200, headers, as_array(events) if array else events)
        await deadlines.tokens(sum(isinstance(each, BlockDelta) for each in _deltas(message)))
        return _whole(call.dialect.encode_reply(message), names)

    def _next(self, session_id: str | None, ask: Ask, body: JsonObject) -> tuple[int, Line]:
        """The number of the answer in its session, and the line that gives it."""
        with self._lock:
            self._asked.append((ask, body))
            session = self._sessions.setdefault(session_id, _Session())
            for place, cue in enumerate(self._cues):
                if session.said[place] < cue.times and _holds(cue, ask):
                    session.said[place] += 1
                    session.answers += 1
                    return session.answers - 1, cue.line
        raise ScriptExhausted(self._exhausted(session, ask))

    def _left(self, session: _Session) -> Iterator[Line]:
        for place, cue in enumerate(self._cues):
            if cue.times < math.inf:
                yield from [cue.line] * int(cue.times - session.said[place])

    def _exhausted(self, session: _Session, ask: Ask) -> str:
        lines = sum(cue.when is None for cue in self._cues)
        rules = len(self._cues) - lines
        said = f"the script's lines are all said ({lines})"
        missed = f", none of its rules ({rules}) holds," if rules else ""
        return f"{said}{missed} and it was asked once more: add one"


def _ask(call: Call, body: JsonObject) -> Ask:
    if call.dialect.name not in call.provider.dialects:
        raise RequestError(
            f"a script cannot answer {call.request.method} {call.request.path!r}, which is"
            f" {call.dialect.name}: it speaks {', '.join(call.provider.dialects)}"
        )
    ask = call.dialect.decode_request(body)
    # Where the path says it, the body does not.
    return ask if ask.model else replace(ask, model=call.model, streaming=call.streaming)


def _holds(cue: Cue, ask: Ask) -> bool:
    try:
        return cue.when is None or cue.when.holds(ask)
    except Exception as error:
        raise ScriptFailed(f"the rule {cue.when!r} in the script failed: {error!r}") from error


async def _answer(line: Line, ask: Ask) -> Said:
    """What the line says. A function's failure must not look like bad weather, which clients try again."""
    if not callable(line):
        return line
    try:
        said: Any = line(ask)
        if inspect.isawaitable(said):
            said = await said
    except Exception as error:
        raise ScriptFailed(f"{_named_function(line)} in the script failed: {error!r}") from error
    if not isinstance(said, str | AssistantMessage | Failure):
        raise ScriptFailed(
            f"{_named_function(line)} in the script gave {said!r}: give text, reply(...) or fail(...)"
        )
    return said


def _named_function(function: object) -> str:
    """Its name, which says more than where it lies in memory."""
    name = getattr(function, "__name__", None)
    return repr(function) if name is None else f"the function {name!r}"


def _whole(body: bytes, names: dict[str, str]) -> Reply:
    fields = {"content-type": "application/json", "content-length": str(len(body))}
    return Reply(200, Headers({**fields, **names}), once(body))


def _id_field(dialect: Dialect) -> str:
    return "request-id" if dialect.name.startswith("anthropic.") else "x-request-id"


def _dress(message: AssistantMessage, ask: Ask, turn: int) -> AssistantMessage:
    """The message with the ids, the model and the usage that a provider would add."""
    content = tuple(
        _named(block, f"call_{turn}_{place}") if isinstance(block, ToolCall) else block
        for place, block in enumerate(message.content)
    )
    return replace(
        message,
        content=content,
        model=message.model or ask.model,
        response_id=message.response_id or f"resp_{turn}",
        stop_reason=message.stop_reason or "stop",
        usage=message.usage or _usage(ask, message),
    )


def _named(call: ToolCall, name: str) -> ToolCall:
    """The call with an id; clients parse the arguments, also where there are none."""
    text = call.text if call.text or call.custom else "{}"
    return replace(call, id=call.id or name, arguments_text=text)


def _usage(ask: Ask, message: AssistantMessage) -> Usage:
    heard = [ask.context.system]
    for turn in ask.context.messages:
        heard += [part.text for part in turn.content if isinstance(part, Text)]
    asked = sum(len(text.split()) for text in heard)
    said = sum(len(block.text.split()) for block in message.content)
    thought = [len(block.text.split()) for block in message.content if isinstance(block, Thinking)]
    return Usage(asked, None, None, said, sum(thought) if thought else None, asked + said)


async def _stream(
    dialect: Dialect, ask: Ask, message: AssistantMessage, deadlines: Deadlines
) -> AsyncGenerator[bytes]:
    snapshot, encoder = Snapshot(), dialect.encoder(ask)
    for delta in _deltas(message):
        if isinstance(delta, BlockDelta):
            await deadlines.tokens()
        for sse in encoder.feed(snapshot.apply(delta)):
            yield encode_sse(sse)


def _deltas(message: AssistantMessage) -> Iterator[Delta]:
    """The message's deltas, text cut into words."""
    for delta in unfold(message):
        if isinstance(delta, BlockDelta):
            for word in _WORD.findall(delta.text):
                yield BlockDelta(delta.index, word)
        else:
            yield delta
