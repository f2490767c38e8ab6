"""The inner loop: calls of the bridge's own tools are run here, and the client gets one answer without them.

Each round is an exchange of its own, recorded below. What the client may see passes live, in the provider's own bytes;
the calls that it may not see are taken out, and what comes after them is renumbered. An answer that calls tools of the
client ends there: what was hidden in it is remembered, and put back when the client brings its results.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from llmbridge.canon.messages import Ask, JsonObject, ToolSpec
from llmbridge.canon.strict_json import loads_strict
from llmbridge.errors import BridgeError, RequestError, TooManyRounds, UpstreamError
from llmbridge.exchange.call import Call, Handler, Headers, Reply, once
from llmbridge.exchange.codec import is_event_stream
from llmbridge.exchange.event_pieces import Pieces
from llmbridge.exchange.failure import NOT_AGAIN, error_with
from llmbridge.exchange.hidden import HiddenRounds
from llmbridge.exchange.tool_runner import ToolRunner
from llmbridge.exchange.toolbox import Gate, Toolbox, ToolLimits
from llmbridge.wire.error_bodies import dump
from llmbridge.wire.loose_json import is_object, text
from llmbridge.wire.rounds import Rounds, Splice, is_ours
from llmbridge.wire.sse import encode_sse
from llmbridge.wire.tool_turns import (
    Hidden,
    add_tools,
    add_turn,
    asked,
    encode_results,
    error_event,
    put_back,
    rounds,
    takes_tools,
    tellable,
)

_TELLING = len(b"event:")
"""So many bytes tell a stream from a whole body."""

_OF_THE_BODY = ("content-length", "content-encoding", "transfer-encoding")


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
        limits = limits or ToolLimits()
        self.rounds = limits.rounds
        self.hidden = HiddenRounds(limits.memory_bytes)
        self.runner = ToolRunner(toolboxes, gate, limits)
        self._idle = not toolboxes
        self.runner.check()

    async def __call__(self, call: Call, forward: Handler) -> Reply:
        """Forward the call with the tools, as often as the model calls them."""
        body = None if self._idle else _body(call)
        if body is None or not takes_tools(call.dialect, body):
            return await forward(call)
        specs, owners = self.runner.offered()
        if not specs:
            return await forward(call)
        _refuse_shared_names(call, body, specs)
        talk = _Talk(call, forward, self, owners, body, rounds(call.dialect, body, owners))
        talk.told = add_tools(call.dialect, put_back(call.dialect, body, talk.recall), specs)
        first = await forward(talk.asking())
        if first.status >= 400:
            return first
        return talk.streamed(first) if call.streaming else await talk.whole(first)


@dataclass(slots=True)
class _Talk:
    """One client's question on its way through the rounds: what is told next, and what was said so far."""

    call: Call
    forward: Handler
    loop: ToolLoop
    owners: dict[str, Toolbox]
    body: JsonObject
    rounds: Rounds
    told: JsonObject = field(default_factory=dict[str, Any])
    round: int = 0
    answer: Reply = field(init=False)
    splice: Splice = field(init=False)
    is_stream: bool = False
    broken: bool = False
    last: bytes = b""
    _turns: list[JsonObject] = field(default_factory=list[JsonObject])

    def asking(self) -> Call:
        """The call of this round."""
        headers = self.call.request.headers.without("content-length")
        request = replace(self.call.request, headers=headers, body=dump(self.told))
        return replace(self.call, request=request, round=self.round)

    def streamed(self, first: Reply) -> Reply:
        """The answer as a stream, whatever number of rounds it takes."""
        self.answer = first.through(self._stream)
        self.answer.headers = first.headers.without(*_OF_THE_BODY)
        if not first.replayed:
            # Only whole events are passed on, so there is always room for one that tells an error.
            self.answer.farewell = self._farewell
        return self.answer

    async def whole(self, first: Reply) -> Reply:
        """The answer as one body; as it came when no tool of ours was called.

        Where that fails after tools were run, clients are not to ask again: tools cost, and may have changed something.
        """
        try:
            reply = await self._whole(first)
        except BridgeError as error:
            error.final = error.final or self.round > 0
            raise
        if self.round and reply.status >= 400:
            reply.headers = Headers((*reply.headers.without(NOT_AGAIN[0]).pairs, NOT_AGAIN))
        return reply

    async def _whole(self, first: Reply) -> Reply:
        reply = first
        while True:
            self.rounds.begin()
            async with aclosing(reply):
                came = b"".join([piece async for piece in reply])
            if reply.status >= 400 or not self._takes(came):
                return _again(reply, came)
            following = await self._next()
            if following is None:
                break
            reply = following
        if not self.round and not self.rounds.hides:
            return _again(reply, came)
        answer = dump(self.rounds.answer())
        length = ("content-length", str(len(answer)))
        headers = Headers([length, *reply.headers.without(*_OF_THE_BODY).pairs])
        return Reply(reply.status, headers, once(answer), source=reply)

    def recall(self, ids: Sequence[str], after: Callable[[], bytes] | None) -> Hidden | None:
        """What was hidden in an answer that the client brings back."""
        return self.loop.hidden.find(self._owner, ids, after)

    def _takes(self, came: bytes) -> bool:
        """True for a body that is an answer; an error that comes with a good status is none."""
        try:
            self.rounds.whole(_object(came) or {})
        except ValueError:
            self._keep_in(came)
            return False
        said = self.rounds.heard.message
        return said.error_type is None and said.error is None

    def _keep_in(self, rest: bytes) -> None:
        """See that bytes which nobody understands tell nothing of our tools."""
        if any(name.encode() in rest for name in self.owners):
            raise UpstreamError("the provider answered in a form that was not asked for")

    async def _stream(self, first: Reply) -> AsyncGenerator[bytes]:
        reply = first
        while True:
            self.answer.follow(reply)
            self.rounds.begin()
            self.splice = Splice(self.rounds, until_kept=self.round > 0)
            try:
                async with aclosing(self._pieces(reply)) as pieces:
                    async for piece in pieces:
                        if b"data:" in piece:
                            self.last = piece
                        yield piece
            except BridgeError:
                self.broken = not self._is_over()
                self.rounds.heard.close()
                self._skip_unfit()
                raise
            # While tools run there is no provider whose end this could be.
            self.answer.follow(None)
            following = await self._next()
            if following is None:
                self.answer.follow(reply)
                if held := self.splice.held():
                    yield held
                return
            reply = following
            if reply.status >= 400:
                yield await self._refused(reply)
                return

    async def _pieces(self, reply: Reply) -> AsyncGenerator[bytes]:
        """A round's bytes as the client may see them: those that come together stay together."""
        pieces, known, is_stream = Pieces(), False, False
        async with aclosing(reply):
            async for chunk in reply:
                first = bytes(pieces.held) + chunk if not known else b""
                if not known and len(first) >= _TELLING:
                    known, is_stream = True, is_event_stream(reply.status, reply.headers, first)
                    self.is_stream = self.is_stream or is_stream
                if not is_stream:
                    pieces.held += chunk
                elif shown := b"".join([self.splice.feed(event) for event in pieces.feed(chunk)]):
                    yield shown
        rest = bytes(pieces.held)
        if not is_stream and self.round:
            # The client is in the middle of a stream by now.
            raise UpstreamError(_told(rest) or "the provider gave no stream after tools were run")
        if not is_stream:
            self._keep_in(rest)
        if shown := self.splice.close(rest) if is_stream else rest:
            yield shown

    async def _next(self) -> Reply | None:
        """Run the calls and ask again; None when the answer is the client's now."""
        said = self.rounds.heard.message
        ours = [call for call in said.tool_calls if is_ours(call, self.owners)]
        theirs = [c for c in said.tool_calls if not is_ours(c, self.owners) and not c.server]
        runner, now = self.loop.runner, self.asking()
        if self._skip_unfit():
            ours = []
        if ours and not theirs and self.round + 1 >= self.loop.rounds:
            most = self.loop.rounds
            why = f"the model called tools in {most} rounds and has not answered"
            runner.skip(now, ours, self.owners, f"{why}, so this was not run")
            raise TooManyRounds(
                f"{why}: this bridge allows {most} rounds of tools a call; who runs it can raise tool_limits.rounds"
            )
        told = await runner.run(now, ours, self.owners) if ours else []
        results = encode_results(self.call.dialect, told)
        turn = tellable(self.body, self.rounds.turn())
        if theirs or not ours:
            if self.round or ours:
                turns = (*self._turns, *turn)
                hidden = Hidden(turns, tuple(results), said.response_id)
                after = asked(self.call.dialect, self.body)
                self.loop.hidden.keep(self._owner, self.rounds.names(), after, hidden)
            return None
        self._turns += [*turn, *results]
        self.told = add_turn(self.call.dialect, self.told, turn, results)
        self.round += 1
        return await self.forward(self.asking())

    def _skip_unfit(self) -> bool:
        """True when no call of this answer is run: a cut call is not what the model meant."""
        said = self.rounds.heard.message
        if said.error_type is not None or said.error is not None:
            why = "the answer broke off"
        elif said.stop_reason in ("length", "content_filter"):
            why = f"the answer was cut ({said.stop or said.stop_reason})"
        else:
            return False
        ours = [call for call in said.tool_calls if is_ours(call, self.owners)]
        self.loop.runner.skip(self.asking(), ours, self.owners, f"{why}, so this was not run")
        return True

    @property
    def _owner(self) -> str:
        return f"{self.call.provider.name} {self.call.request.caller.actor or ''}"

    async def _refused(self, reply: Reply) -> bytes:
        """A provider's refusal where a stream is under way: in its own words."""
        async with aclosing(reply):
            came = b"".join([piece async for piece in reply])
        said = _told(came) or f"the provider answered {reply.status}"
        self.answer.error = error_with(reply.status, said)
        self.answer.settled = "upstream_error"
        body = _object(came)
        if body is None or not is_object(body.get("error")):
            return self._farewell(self.answer.error)
        return encode_sse(error_event(self.call.dialect, body, self.last))

    def _is_over(self) -> bool:
        """True when the client has had the end of its stream."""
        said = self.rounds.heard.message
        ended = said.stop_reason is not None or said.error_type is not None
        return ended and not self.rounds.hides

    def _farewell(self, error: BridgeError) -> bytes:
        """The event that ends the stream with an error, unless it has its end."""
        if not self.is_stream or (self._is_over() and not self.broken):
            return b""
        return encode_sse(self.call.dialect.encode_error_event(error, self.last))


def _again(reply: Reply, body: bytes) -> Reply:
    """The reply with the bytes that were read from it."""
    if reply.error is not None and not body:
        raise reply.error
    return Reply(reply.status, reply.headers, once(body), source=reply)


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        value = loads_strict(body)
    except ValueError:
        return None
    return value if is_object(value) else None


def _told(body: bytes) -> str:
    """What an error's body says."""
    error = (_object(body) or {}).get("error")
    return text(error.get("message")) if is_object(error) else ""


def _body(call: Call) -> dict[str, Any] | None:
    return _object(call.request.body)


def _refuse_shared_names(call: Call, body: JsonObject, specs: Sequence[ToolSpec]) -> None:
    ask: Ask = call.dialect.decode_request({"tools": body.get("tools")})
    theirs = {spec.name for spec in ask.context.tools}
    if shared := sorted(theirs & {spec.name for spec in specs}):
        raise RequestError(
            f"the client brings a tool called {shared[0]!r}, and so does the bridge: rename one"
        )
