"""llmbridge.exchange.tool_loop: what goes over the wire, and when."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from llmbridge import Bridge, Script, calls
from llmbridge.canon.events import fold
from llmbridge.canon.messages import AssistantMessage, Text, ToolCall
from llmbridge.errors import BridgeError
from llmbridge.exchange.call import Call, Headers, Reply, Request
from llmbridge.exchange.failure import Failure
from llmbridge.providers import dialect_named
from llmbridge.wire.anthropic_messages import ANTHROPIC_MESSAGES
from llmbridge.wire.dialect import Dialect
from llmbridge.wire.openai_chat import OPENAI_CHAT
from llmbridge.wire.openai_responses import OPENAI_RESPONSES
from llmbridge.wire.sse import SSEDecoder

CALLING = AssistantMessage((Text("One moment."), ToolCall("a", "wait")), stop_reason="tool_use")
FIXTURES = Path(__file__).parents[2] / "fixtures"
DIALECTS = (ANTHROPIC_MESSAGES, OPENAI_CHAT, OPENAI_RESPONSES)
STREAMS = sorted(path for d in DIALECTS for path in (FIXTURES / d.name).glob("*.sse"))


def wait() -> str:
    """Wait."""
    return "waited"


def post(dialect: Dialect, *, streaming: bool, **more: Any) -> Request:
    key = "input" if dialect is OPENAI_RESPONSES else "messages"
    said = [{"role": "user", "content": "Hi"}]
    body = {"model": "m", "max_tokens": 9, "stream": streaming, key: said, **more}
    labelled = Headers((("content-type", "application/json"),))
    return Request("POST", f"http://localhost{dialect.path}", labelled, json.dumps(body).encode())


def chat(*, streaming: bool) -> Request:
    return post(OPENAI_CHAT, streaming=streaming)


def answering(*bodies: bytes, size: int = 100) -> tuple[Callable[..., Any], list[Any]]:
    """A provider that gives these bytes, one body a round, and what it was asked."""
    asked: list[Any] = []

    async def upstream(call: Call) -> Reply:
        body = bodies[len(asked)]
        asked.append(json.loads(call.request.body))
        kind = "application/json" if body.startswith(b"{") else "text/event-stream"

        async def chunks() -> AsyncIterator[bytes]:
            for start in range(0, len(body), size):
                yield body[start : start + size]

        return Reply(200, Headers((("content-type", kind),)), chunks())

    return upstream, asked


async def got(bridge: Bridge, request: Request) -> bytes | None:
    reply = await bridge.handle(request)
    try:
        return b"".join([piece async for piece in reply])
    except BridgeError:
        return None


def recorded(path: Path) -> bytes:
    return path.read_bytes()


def tool_named(name: str) -> Callable[[], str]:
    def tool() -> str:
        return "done"

    tool.__name__ = name
    return tool


def read(dialect: Dialect, body: bytes) -> AssistantMessage:
    decoder, sse = dialect.decoder(), SSEDecoder()
    events = [*sse.feed(body), *sse.close()]
    return fold([*(d for event in events for d in decoder.feed(event)), *decoder.close()])


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
async def test_text_before_a_call_comes_live_and_a_client_that_leaves_stops_the_tool(
    dialect: Dialect,
):
    happened: list[str] = []
    started = anyio.Event()

    def seen(piece: bytes) -> None:
        if b"moment." in piece and not happened:
            happened.append("text")

    async def wait() -> None:
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            happened.append("tool stopped")

    async with Bridge(Script(CALLING, "Done."), tools=[wait]) as bridge:
        reply = await bridge.handle(post(dialect, streaming=True))
        async with aclosing(reply), anyio.create_task_group() as tasks:

            async def read() -> None:
                async for piece in reply:
                    seen(piece)

            tasks.start_soon(read)
            await started.wait()
            happened.append("tool runs")
            tasks.cancel_scope.cancel()

        assert happened == ["text", "tool runs", "tool stopped"]
        assert bridge.inflight == ()
        assert bridge.interceptions[0].end == "client_gone"


async def test_a_whole_answer_without_our_tools_keeps_its_bytes():
    async with Bridge(Script("Hi."), tools=[wait]) as bridge:
        reply = await bridge.handle(chat(streaming=False))
        whole = b"".join([piece async for piece in reply])

        assert whole == bridge.records[0].body


@pytest.mark.parametrize("path", STREAMS, ids=lambda path: f"{path.parent.name}/{path.stem}")
async def test_a_stream_without_our_tools_keeps_its_bytes(path: Path):
    dialect = dialect_named(path.parent.name)
    plain, _ = answering(recorded(path))
    offering, _ = answering(recorded(path))
    asked = post(dialect, streaming=True, stream_options={"include_usage": True})
    async with Bridge(plain) as bare, Bridge(offering, tools=[wait]) as bridge:
        before, after = await got(bare, asked), await got(bridge, asked)

    # What breaks off ends at a whole event here, where there is room for an error.
    assert after is not None
    assert after == before if before is not None else b"error" in after


def called_in(path: Path) -> Iterator[str]:
    message = read(dialect_named(path.parent.name), recorded(path))
    cut = message.stop_reason in ("length", "content_filter") or message.error_type is not None
    for call in message.tool_calls:
        # The old `function_call` has no id: nobody is offered tools together with it.
        if not (cut or call.server or call.custom) and call.name and call.id:
            yield call.name


CALLED = sorted({(path, name) for path in STREAMS for name in called_in(path)})


@pytest.mark.parametrize(
    ("path", "name"), CALLED, ids=[f"{path.parent.name}/{path.stem}-{n}" for path, n in CALLED]
)
@pytest.mark.feature("gateway", 23, 25)
async def test_a_call_of_ours_is_cut_out_of_any_stream_and_told_to_the_provider(
    path: Path, name: str
):
    dialect, body = dialect_named(path.parent.name), recorded(path)
    upstream, asked = answering(body, recorded(FIXTURES / dialect.name / "text.sse"))
    async with Bridge(upstream, tools=[tool_named(name)]) as bridge:
        shown = await got(bridge, post(dialect, streaming=True))
    assert shown is not None

    said, last = (
        read(dialect, body),
        read(dialect, recorded(FIXTURES / dialect.name / "text.sse")),
    )
    mixed = any(call.name != name and not call.server for call in said.tool_calls)
    visible = [b for b in said.content if not (isinstance(b, ToolCall) and b.name == name)]
    seen = read(dialect, shown)
    words = "".join(b.text for b in visible if isinstance(b, Text)) + ("" if mixed else last.text)
    calls = [(b.id, b.name, b.text) for b in visible if isinstance(b, ToolCall)]
    assert (seen.text, [(c.id, c.name, c.text) for c in seen.tool_calls]) == (words, calls)
    assert name.encode() not in shown
    assert seen.error_type is None
    if not mixed:
        ask = dialect.decode_request(asked[1])
        told = [m for m in ask.context.messages if isinstance(m, AssistantMessage)]
        again = [(c.id, c.name, c.arguments) for m in told for c in m.tool_calls if not c.server]
        assert again == [(c.id, c.name, c.arguments) for c in said.tool_calls if not c.server]


CUT: list[tuple[Dialect, str]] = [
    *((ANTHROPIC_MESSAGES, "max_tokens_tool_call"), (OPENAI_CHAT, "length_tool_call")),
    *((OPENAI_CHAT, "truncated_tool_call"), (ANTHROPIC_MESSAGES, "truncated_tool_call")),
]


@pytest.mark.parametrize(("dialect", "name"), CUT, ids=[f"{d.name}/{name}" for d, name in CUT])
async def test_a_call_of_ours_that_was_cut_is_neither_run_nor_shown(dialect: Dialect, name: str):
    body = recorded(FIXTURES / dialect.name / f"{name}.sse")
    [call] = read(dialect, body).tool_calls
    upstream, asked = answering(body)
    ran: list[str] = []

    def tool() -> None:
        ran.append("ran")

    tool.__name__ = call.name
    async with Bridge(upstream, tools=[tool]) as bridge:
        shown = await got(bridge, post(dialect, streaming=True))
        [run] = bridge.interceptions[0].tool_runs

    assert (len(asked), ran, run.duration_s) == (1, [], None)
    assert call.name.encode() not in (shown or b"")
    assert "so this was not run" in (run.error or "")


async def test_usage_that_every_chunk_restates_is_summed_once_a_round():
    body = recorded(FIXTURES / "openai.chat" / "usage_cumulative.sse")
    first = recorded(FIXTURES / "openai.chat" / "tool_call.sse")
    [call] = read(OPENAI_CHAT, first).tool_calls
    rounds = [read(OPENAI_CHAT, each).usage for each in (first, body)]
    upstream, _ = answering(first, body)
    async with Bridge(upstream, tools=[tool_named(call.name)]) as bridge:
        asked = post(OPENAI_CHAT, streaming=True, stream_options={"include_usage": True})
        shown = await got(bridge, asked)

    assert shown is not None
    total = read(OPENAI_CHAT, shown).usage
    assert total is not None
    assert total.output_tokens == sum(used.output_tokens or 0 for used in rounds if used)


async def test_many_clients_at_once_get_each_their_own_answer():
    texts: dict[int, str] = {}

    async def said(call: Call) -> Reply:
        body = json.loads(call.request.body)
        words, told = body["messages"][0]["content"], body["messages"][-1]["role"] == "tool"
        line = f"This is {words}." if told else calls("echo", words=words)
        return await Script(line)(call)

    async def echo(words: str) -> str:
        await anyio.lowlevel.checkpoint()
        return words

    async with Bridge(said, tools=[echo]) as bridge, anyio.create_task_group() as tasks:

        async def client(number: int) -> None:
            body = post(
                OPENAI_CHAT,
                streaming=bool(number % 2),
                messages=[{"role": "user", "content": str(number)}],
            )
            shown = await got(bridge, body)
            assert shown is not None
            texts[number] = (
                read(OPENAI_CHAT, shown).text
                if number % 2
                else fold(OPENAI_CHAT.decode_reply(shown)).text
            )

        for number in range(50):
            tasks.start_soon(client, number)

    assert texts == {number: f"This is {number}." for number in range(50)}


@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_a_stream_that_breaks_off_between_rounds_ends_with_an_error_and_never_two(size: int):
    first = recorded(FIXTURES / "anthropic.messages" / "tool_call.sse")
    [call] = read(ANTHROPIC_MESSAGES, first).tool_calls
    cut = recorded(FIXTURES / "anthropic.messages" / "text.sse")[:-400]
    upstream, _ = answering(first, cut, size=size)
    async with Bridge(upstream, tools=[tool_named(call.name)]) as bridge:
        shown = await got(bridge, post(ANTHROPIC_MESSAGES, streaming=True))
        [interception] = bridge.interceptions

    assert shown is not None
    assert (shown.count(b"event: error"), shown.count(b"message_stop")) == (1, 0)
    assert interception.end == "truncated"


def numbers(body: bytes) -> list[int]:
    return [json.loads(sse.data)["sequence_number"] for sse in SSEDecoder().feed(body)]


@pytest.mark.parametrize("refused", [True, False], ids=["refused", "broken"])
async def test_an_error_in_a_later_round_goes_on_counting_the_events(refused: bool):
    folder = FIXTURES / "openai.responses"
    first, second = recorded(folder / "tool_call.sse"), recorded(folder / "text.sse")
    [call] = read(OPENAI_RESPONSES, first).tool_calls
    upstream, asked = answering(first, second[: len(second) // 2])

    async def provider(call: Call) -> Reply:
        return await (Script(Failure(500))(call) if asked and refused else upstream(call))

    async with Bridge(provider, tools=[tool_named(call.name)]) as bridge:
        shown = await got(bridge, post(OPENAI_RESPONSES, streaming=True))

    assert shown is not None
    told = numbers(shown)
    assert (shown.count(b"event: error"), told) == (1, list(range(len(told))))


@pytest.mark.parametrize("answer", ["error", "whole", "nothing"])
@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
async def test_a_later_round_that_is_no_stream_ends_it_with_an_error(dialect: Dialect, answer: str):
    first = recorded(FIXTURES / dialect.name / "tool_call.sse")
    [call] = read(dialect, first).tool_calls
    whole = AssistantMessage((Text("Hi."),), stop_reason="stop")
    error, told = dialect.encode_error(BridgeError("no more")), "the provider gave no stream"
    body = {"error": error, "whole": dialect.encode_reply(whole), "nothing": b""}[answer]
    upstream, _ = answering(first, body)
    async with Bridge(upstream, tools=[tool_named(call.name)]) as bridge:
        shown = await got(bridge, post(dialect, streaming=True))
        [interception] = bridge.interceptions

    assert shown is not None
    message = read(dialect, shown)
    assert message.error is not None
    assert message.error.startswith("no more" if answer == "error" else told)
    assert interception.end == "upstream_error"


async def test_a_whole_body_for_a_stream_passes_as_it_came_and_ends_with_nothing_else():
    whole = ANTHROPIC_MESSAGES.encode_reply(AssistantMessage((Text("Hi."),), stop_reason="stop"))
    upstream, _ = answering(whole, size=3)
    async with Bridge(upstream, tools=[wait]) as bridge:
        reply = await bridge.handle(post(ANTHROPIC_MESSAGES, streaming=True))
        shown = b"".join([piece async for piece in reply])

        assert shown == whole
        assert reply.farewell(BridgeError("the bridge stops")) == b""


async def test_nothing_follows_the_end_of_a_stream():
    body = recorded(FIXTURES / "anthropic.messages" / "text.sse")
    upstream, _ = answering(body)
    async with Bridge(upstream, tools=[wait]) as bridge:
        reply = await bridge.handle(post(ANTHROPIC_MESSAGES, streaming=True))
        before = reply.farewell(BridgeError("the bridge stops"))
        shown = [piece async for piece in reply]

        assert (before, b"".join(shown)) == (b"", body)
        assert reply.farewell(BridgeError("the bridge stops")) == b""


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
async def test_an_error_with_a_good_status_in_a_later_round_passes_as_it_came(dialect: Dialect):
    called = dialect.encode_reply(CALLING)
    failed = dialect.encode_error(BridgeError("no more"))
    upstream, _ = answering(called, failed)
    async with Bridge(upstream, tools=[wait]) as bridge:
        shown = await got(bridge, post(dialect, streaming=False))

    assert shown == failed


@pytest.mark.parametrize("streaming", [True, False], ids=["stream", "block"])
async def test_an_answer_in_another_form_that_tells_of_our_tools_is_kept_in(streaming: bool):
    whole = OPENAI_CHAT.encode_reply(CALLING)
    stream = recorded(FIXTURES / "openai.chat" / "tool_call.sse")
    [call] = read(OPENAI_CHAT, stream).tool_calls
    upstream, _ = answering(whole if streaming else stream)
    async with Bridge(upstream, tools=[wait, tool_named(call.name)]) as bridge:
        shown = await got(bridge, chat(streaming=streaming))
        [interception] = bridge.interceptions

    assert b"wait" not in (shown or b"")
    assert call.name.encode() not in (shown or b"")
    assert interception.end == "upstream_error"
