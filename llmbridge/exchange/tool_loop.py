"""The inner loop: calls of the bridge's own tools are run here, and the client gets one answer without them.

Each round is an exchange of its own, recorded below. What the model says before a call passes live. From its first
call on, a round is held until it is known whose calls these are: when the bridge's and the client's come together, the
bridge's are run and the client's forgotten, since a provider wants a result for each; the model asks for them again.
"""

import inspect
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

import anyio

from llmbridge.canon.events import (
    BlockDelta,
    BlockEnd,
    BlockStart,
    Delta,
    Fail,
    Finish,
    Snapshot,
    Start,
    fold,
)
from llmbridge.canon.messages import (
    Ask,
    AssistantMessage,
    Block,
    Text,
    ToolCall,
    ToolResult,
    ToolSpec,
    Usage,
)
from llmbridge.canon.strict_json import loads_strict
from llmbridge.errors import BridgeError, ConfigurationError, RequestError
from llmbridge.exchange.call import Call, Handler, Headers, Reply, no_farewell, once
from llmbridge.exchange.codec import read_deltas
from llmbridge.exchange.failure import error_with
from llmbridge.exchange.toolbox import Gate, Toolbox, ToolLimits
from llmbridge.wire.error_bodies import dump
from llmbridge.wire.loose_json import is_object
from llmbridge.wire.sse import encode_sse
from llmbridge.wire.tool_turns import add_tools, add_turn, takes_tools

_logger = logging.getLogger("llmbridge")

_STREAM = (
    ("content-type", "text/event-stream"),
    ("cache-control", "no-cache"),
    ("x-accel-buffering", "no"),
)
_OF_THE_BODY = ("content-type", "content-length", "content-encoding", "transfer-encoding")


class ToolLoop:
    """An interceptor that offers tools to the model and runs those it calls.

    `gate` may refuse a call, with words for the model.
    """

    def __init__(
        self,
        toolboxes: Sequence[Toolbox],
        gate: Gate | None = None,
        limits: ToolLimits | None = None,
    ) -> None:
        self._toolboxes = tuple(toolboxes)
        self._gate = gate
        self._limits = limits or ToolLimits()
        _owners(self._toolboxes)

    async def __call__(self, call: Call, forward: Handler) -> Reply:
        """Forward the call with the tools, as often as the model calls them."""
        if not self._toolboxes or not takes_tools(call.dialect):
            return await forward(call)
        body = _body(call)
        owners = _owners(self._toolboxes)
        specs = [spec for box in self._toolboxes for spec in box.specs()]
        if body is None or not specs:
            return await forward(call)
        _refuse_shared_names(call, body, specs)
        talk = _Talk(call, forward, add_tools(call.dialect, body, specs), owners, self)
        first = await forward(talk.asking())
        if first.status >= 400:
            return first
        return talk.streamed(first) if call.streaming else await talk.whole(first)

    @property
    def rounds(self) -> int:
        """How often a model is asked for one answer, at most."""
        return self._limits.rounds

    async def run(self, calls: Sequence[ToolCall], owners: dict[str, Toolbox]) -> list[ToolResult]:
        """The results of these calls, in their order; they run side by side."""
        results: dict[int, ToolResult] = {}

        async def one(place: int, call: ToolCall) -> None:
            results[place] = await self._run(call, owners[call.name])

        async with anyio.create_task_group() as tasks:
            for place, call in enumerate(calls):
                tasks.start_soon(one, place, call)
        return [results[place] for place in range(len(calls))]

    async def _run(self, call: ToolCall, box: Toolbox) -> ToolResult:
        seconds = self._limits.tool_timeout_s
        try:
            if not is_object(_arguments(call)):
                return _failed(call, "the arguments are not a JSON object")
            with anyio.fail_after(seconds):
                refused = await self._refused(call)
                if refused is not None:
                    return _failed(call, f"the call was refused: {refused}")
                result = await box.call(call)
        except TimeoutError:
            return _failed(call, f"the tool {call.name!r} did not answer within {seconds:g} s")
        except Exception as error:
            # The border: a user's function, or somebody else's server.
            _logger.exception("the tool %r failed", call.name)
            return _failed(call, f"the tool failed with {type(error).__name__}: {error}")
        return replace(result, tool_call_id=call.id, content=tuple(self._capped(result)))

    async def _refused(self, call: ToolCall) -> str | None:
        said = self._gate(call) if self._gate is not None else None
        return await said if inspect.isawaitable(said) else said

    def _capped(self, result: ToolResult) -> Any:
        left = self._limits.result_chars
        for part in result.content:
            if not isinstance(part, Text):
                yield part
            elif len(part.text) <= left:
                left -= len(part.text)
                yield part
            else:
                cut = len(part.text) - left
                yield Text(f"{part.text[:left]}\n[{cut:,} more characters were left out]")
                left = 0


@dataclass(slots=True)
class _Talk:
    """One client's question on its way through the rounds: what is asked next, and what was said so far."""

    call: Call
    forward: Handler
    body: dict[str, Any]
    owners: dict[str, Toolbox]
    loop: ToolLoop
    round: int = 0
    blocks: int = 0
    called: bool = False
    usage: Usage | None = None
    error: BridgeError | None = None
    failed: Reply | None = field(default=None, repr=False)

    def asking(self) -> Call:
        """The call of this round."""
        headers = self.call.request.headers.without("content-length")
        request = replace(self.call.request, headers=headers, body=dump(self.body))
        return replace(self.call, request=request, round=self.round)

    def streamed(self, first: Reply) -> Reply:
        """The answer as a stream, whatever number of rounds it takes."""

        async def encoded(source: Reply) -> AsyncIterator[bytes]:
            ask = self.call.dialect.decode_request(self.body)
            snapshot, encoder = Snapshot(), self.call.dialect.encoder(ask)
            async with aclosing(self.deltas(source)) as deltas:
                async for delta in deltas:
                    if isinstance(delta, Fail):
                        self._blame(answer)
                    events = encoder.feed(snapshot.apply(delta))
                    if piece := b"".join(encode_sse(sse) for sse in events):
                        yield piece

        answer = first.through(encoded)
        fields = first.headers.without(*_OF_THE_BODY, *dict(_STREAM)).pairs
        answer.headers = Headers((*_STREAM, *fields))
        answer.farewell = no_farewell
        return answer

    async def whole(self, first: Reply) -> Reply:
        """The answer as one body; as it came when no tool of ours was called."""
        pieces: list[bytes] = []
        first.watch(lambda ended: None, pieces.append)
        message = fold([delta async for delta in self.deltas(first)])
        kept = first.headers.without(*_OF_THE_BODY).pairs
        if not self.called:
            if first.error is not None:
                raise first.error
            return Reply(first.status, first.headers, once(b"".join(pieces)), source=first)
        label = ("content-type", "application/json")
        if message.error_type or message.error is not None:
            failed = self.failed
            status = failed.status if failed and failed.status >= 400 else 502
            error = self.error or error_with(status, message.error or "the provider broke off")
            body = self.call.dialect.encode_error(error)
            answer = Reply(error.status, Headers((label, *kept)), once(body), source=first)
            self._blame(answer)
        else:
            body = self.call.dialect.encode_reply(message)
            answer = Reply(200, Headers((label, *kept)), once(body), source=first)
        answer.farewell = no_farewell
        return answer

    def _blame(self, answer: Reply) -> None:
        """Let the answer end as the round that failed did."""
        ended = self.failed
        answer.error = self.error or (ended.error if ended else None)
        if answer.error is not None:
            answer.settled = answer.error.end
        elif ended is not None and ended.end not in (None, "completed"):
            answer.settled = ended.end
        else:
            answer.settled = "upstream_error"

    async def deltas(self, reply: Reply) -> AsyncGenerator[Delta]:
        """What the client is to see of all rounds: one start, blocks numbered through, one end."""
        while True:
            heard = _Round(self.owners, self.blocks, first=self.round == 0)
            self.failed = reply
            async with aclosing(read_deltas(self.call.dialect, reply)) as deltas:
                async for delta in deltas:
                    for shown in heard.take(delta):
                        yield shown
            self.usage = _sum(self.usage, heard.usage)
            calls = heard.ours()
            self.called = self.called or heard.called
            for delta in heard.rest(calls):
                yield delta
            self.blocks = heard.blocks
            if not calls:
                yield self._ending(heard)
                return
            following = await self._next(heard.message, calls)
            if isinstance(following, BridgeError):
                self.error = following
                yield Fail(following.kind, following.message, usage=self.usage)
                return
            reply = following

    def _ending(self, heard: "_Round") -> Delta:
        end = heard.ending
        if isinstance(end, Fail) and self.failed and self.failed.status >= 400:
            self.error = error_with(self.failed.status, end.error or "the provider refused")
        if self.round:
            # The answer goes by the name of the first round.
            end = replace(end, response_id=None, model=None)
        return replace(end, usage=self.usage)

    async def _next(self, said: AssistantMessage, calls: Sequence[ToolCall]) -> Reply | BridgeError:
        """Run the calls and ask again."""
        if self.round + 1 >= self.loop.rounds:
            return BridgeError(
                f"the model called tools in {self.loop.rounds} rounds and has not answered:"
                " raise ToolLimits(rounds=...)"
            )
        results = await self.loop.run(calls, self.owners)
        content = [block for block in said.content if _told_again(block, calls)]
        self.body = add_turn(
            self.call.dialect, self.body, replace(said, content=tuple(content)), results
        )
        self.round += 1
        try:
            return await self.forward(self.asking())
        except BridgeError as error:
            return error


class _Round:
    """One round's deltas: passed on with new numbers until the first call, held from there."""

    def __init__(self, owners: dict[str, Toolbox], blocks: int, *, first: bool) -> None:
        self.blocks = blocks
        self.usage: Usage | None = None
        self.ending: Finish | Fail = Fail("truncated", "the answer stopped before its end")
        self._owners = owners
        self._first = first
        self._numbers: dict[int, int] = {}
        self._held: list[Delta] = []
        self._holding = False
        self._snapshot = Snapshot()

    @property
    def message(self) -> AssistantMessage:
        """What the model said in this round."""
        return self._snapshot.message

    def take(self, delta: Delta) -> Sequence[Delta]:
        """What may be shown at once."""
        self._snapshot.apply(delta)
        match delta:
            case Start():
                return (delta,) if self._first else ()
            case Finish() | Fail():
                self.ending, self.usage = delta, delta.usage
                return ()
            case BlockStart(_, ToolCall(server=False)):
                self._holding = True
            case _:
                pass
        if self._holding:
            self._held.append(delta)
            return ()
        return (self._numbered(delta),)

    @property
    def called(self) -> bool:
        """True when a tool of ours was called, in whatever way this ended."""
        return any(self._mine(call) for call in self.message.tool_calls)

    def ours(self) -> list[ToolCall]:
        """The calls to run: none when the answer was cut, since a cut call is not what the model meant."""
        if isinstance(self.ending, Fail) or self.ending.stop_reason == "length":
            return []
        return [call for call in self.message.tool_calls if self._mine(call)]

    def rest(self, running: Sequence[ToolCall]) -> Sequence[Delta]:
        """What was held: without calls when some are run, else without those the client cannot know."""
        hidden: set[int] = set()
        shown: list[Delta] = []
        for delta in self._held:
            if isinstance(delta, Start | Finish | Fail):
                continue
            if isinstance(delta, BlockStart) and isinstance(delta.block, ToolCall):
                call = delta.block
                if self._mine(call) or (running and not call.server):
                    hidden.add(delta.index)
            if delta.index not in hidden:
                shown.append(self._numbered(delta))
        return shown

    def _mine(self, call: ToolCall) -> bool:
        return call.name in self._owners and not call.server and not call.custom

    def _numbered(self, delta: BlockStart | BlockDelta | BlockEnd) -> Delta:
        if isinstance(delta, BlockStart):
            self._numbers[delta.index] = self.blocks
            self.blocks += 1
        return replace(delta, index=self._numbers[delta.index])


def _told_again(block: Block, calls: Sequence[ToolCall]) -> bool:
    # An empty text is refused by providers, and a call without a result.
    match block:
        case ToolCall():
            return block.server or block in calls
        case Text():
            return bool(block.text)
        case _:
            return True


def _owners(toolboxes: Sequence[Toolbox]) -> dict[str, Toolbox]:
    owners: dict[str, Toolbox] = {}
    for box in toolboxes:
        for spec in box.specs():
            if spec.name in owners:
                raise ConfigurationError(f"two tools are called {spec.name!r}: rename one")
            owners[spec.name] = box
    return owners


def _body(call: Call) -> dict[str, Any] | None:
    try:
        body = loads_strict(call.request.body)
    except ValueError:
        return None
    return body if is_object(body) else None


def _refuse_shared_names(call: Call, body: dict[str, Any], specs: Sequence[ToolSpec]) -> None:
    ask: Ask = call.dialect.decode_request(body)
    theirs = {spec.name for spec in ask.context.tools}
    if shared := sorted(theirs & {spec.name for spec in specs}):
        raise RequestError(
            f"the client brings a tool called {shared[0]!r}, and so does the bridge: rename one"
        )


def _arguments(call: ToolCall) -> Any:
    """The arguments, read strictly: what was cut short is not guessed."""
    try:
        return loads_strict(call.text.encode()) if call.text.strip() else {}
    except ValueError:
        return None


def _failed(call: ToolCall, why: str) -> ToolResult:
    return ToolResult(call.id, (Text(f"Error: {why}"),), is_error=True)


def _sum(one: Usage | None, other: Usage | None) -> Usage | None:
    """Both together; the provider's own numbers are left out, since they are of one round."""
    if one is None or other is None:
        both = one or other
        return both and replace(both, raw={})
    return Usage(
        _added(one.input_tokens, other.input_tokens),
        _added(one.cache_read_tokens, other.cache_read_tokens),
        _added(one.cache_write_tokens, other.cache_write_tokens),
        _added(one.output_tokens, other.output_tokens),
        _added(one.reasoning_tokens, other.reasoning_tokens),
        _added(one.total_tokens, other.total_tokens),
    )


def _added(one: int | None, other: int | None) -> int | None:
    return other if one is None else one + (other or 0)
