import json
from typing import Any

import pytest

from llmbridge.bridge import Bridge
from llmbridge.canon.messages import Ask, AssistantMessage, Text, Thinking, ToolCall, Usage
from llmbridge.exchange.call import Caller, Headers, Reply, Request
from llmbridge.upstreams.lines import Line, calls, fail, repeat, reply, when
from llmbridge.upstreams.script import Script

PATHS = ("/v1/messages", "/v1/chat/completions", "/v1/responses")
CHAT = "/v1/chat/completions"
every_path = pytest.mark.parametrize("path", PATHS)
both = pytest.mark.parametrize("streaming", [True, False], ids=["stream", "block"])


async def ask(
    bridge: Bridge,
    path: str = CHAT,
    streaming: bool = False,
    text: str = "hi",
    session: str | None = None,
    **more: Any,
) -> Reply:
    said = [{"role": "user", "content": text}]
    words = {"model": "m", "messages": said, "input": text, "max_tokens": 9, "stream": streaming}
    body = json.dumps({**words, **more}).encode()
    caller = Caller(session_id=session)
    return await bridge.handle(Request("POST", f"http://bridge{path}", Headers(), body, caller))


async def read(reply: Reply) -> list[bytes]:
    return [chunk async for chunk in reply]


async def said(
    script: Script, path: str = CHAT, streaming: bool = False, times: int = 1
) -> list[AssistantMessage]:
    bridge = Bridge(script, environ={})
    for _ in range(times):
        await read(await ask(bridge, path, streaming))
    return [message for record in bridge.records if (message := record.message)]


async def heard(bridge: Bridge, *texts: str, session: str | None = None) -> list[str | None]:
    """The answer to each text; None for a refusal."""
    answers: list[str | None] = []
    for text in texts:
        reply = await ask(bridge, text=text, session=session)
        body = json.loads(b"".join(await read(reply)))
        answers.append(None if "error" in body else body["choices"][0]["message"]["content"])
    return answers


@both
@every_path
async def test_a_line_is_said_in_the_clients_own_dialect(path: str, streaming: bool) -> None:
    (message,) = await said(Script("Hello there"), path, streaming)

    assert (message.text, message.stop_reason, message.model) == ("Hello there", "stop", "m")


@both
@every_path
async def test_lines_follow_each_other(path: str, streaming: bool) -> None:
    script = Script("one", calls("clock", zone="UTC"), reply(Thinking("hm"), "It is noon."))

    messages = await said(script, path, streaming, times=3)

    assert [
        (m.thinking, m.text, [(c.name, c.arguments) for c in m.tool_calls], m.stop_reason)
        for m in messages
    ] == [
        ("", "one", [], "stop"),
        ("", "", [("clock", {"zone": "UTC"})], "tool_use"),
        ("hm", "It is noon.", [], "stop"),
    ]


@both
@every_path
async def test_several_tools_are_called_at_once(path: str, streaming: bool) -> None:
    both_calls = reply("One moment.", calls("clock"), calls("weather", city="Lisbon"))

    (message,) = await said(Script(both_calls), path, streaming)

    assert [(call.id, call.name, call.arguments) for call in message.tool_calls] == [
        ("call_0_1", "clock", {}),
        ("call_0_2", "weather", {"city": "Lisbon"}),
    ]


async def test_a_line_may_be_a_function_of_what_was_asked() -> None:
    def echo(asked: Ask) -> str:
        (message,) = asked.context.messages
        return "".join(part.text for part in message.content if isinstance(part, Text)).upper()

    assert await heard(Bridge(Script(echo), environ={}), "hi") == ["HI"]


async def test_such_a_function_may_be_async() -> None:
    async def answer(asked: Ask) -> AssistantMessage:
        return reply(f"asked {asked.model}")

    assert await heard(Bridge(Script(answer), environ={}), "hi") == ["asked m"]


async def test_a_function_that_fails_is_no_weather_to_sit_out() -> None:
    def check(asked: Ask) -> str:
        raise AssertionError("no tools were offered")

    refused = await ask(Bridge(Script(check), environ={}))

    told = json.loads((await read(refused))[0])["error"]["message"]
    assert (refused.status, refused.headers["x-should-retry"]) == (400, "false")
    assert (
        told == "the function 'check' in the script failed: AssertionError('no tools were offered')"
    )


async def test_a_condition_that_fails_is_no_weather_either() -> None:
    def check(asked: Ask) -> bool:
        raise AssertionError("no tools were offered")

    refused = await ask(Bridge(Script(when(check).say("Hello")), environ={}))

    told = json.loads((await read(refused))[0])["error"]["message"]
    assert (refused.status, refused.headers["x-should-retry"]) == (400, "false")
    assert told.endswith("in the script failed: AssertionError('no tools were offered')")


async def test_a_function_must_give_an_answer() -> None:
    wrong: Any = lambda asked: None  # noqa: E731

    refused = await ask(Bridge(Script(wrong), environ={}))

    assert (refused.status, b"gave None: give text" in (await read(refused))[0]) == (400, True)


async def test_the_same_script_gives_the_same_bytes() -> None:
    first, second = Bridge(Script("Hello"), environ={}), Bridge(Script("Hello"), environ={})
    for bridge in (first, second):
        await read(await ask(bridge, streaming=True))

    assert first.records[0].body == second.records[0].body


async def test_every_word_is_an_event_and_every_event_a_piece() -> None:
    pieces = await read(await ask(Bridge(Script("a b c"), environ={}), streaming=True))

    deltas = [json.loads(piece[6:])["choices"][0]["delta"] for piece in pieces[:-1]]
    assert deltas == [
        {"role": "assistant", "content": ""},
        {"content": "a"},
        {"content": " b"},
        {"content": " c"},
        {},
    ]


@pytest.mark.parametrize("asked_for", [True, False])
async def test_a_chat_stream_tells_usage_when_it_is_asked(asked_for: bool) -> None:
    options: Any = {"stream_options": {"include_usage": asked_for}}

    pieces = await read(await ask(Bridge(Script("x"), environ={}), streaming=True, **options))

    assert any(b'"usage":{' in piece for piece in pieces) is asked_for


async def test_usage_is_counted_in_words() -> None:
    (message,) = await said(Script(reply(Thinking("let me see"), "It is noon.")))

    assert message.usage == Usage(1, None, None, 6, 3, 7)


async def test_usage_can_be_given() -> None:
    (message,) = await said(Script(reply("x", usage=Usage(10, 5, None, 3, None, 18))), PATHS[0])

    assert message.usage is not None
    assert (message.usage.input_tokens, message.usage.cache_read_tokens) == (10, 5)


async def test_the_number_of_an_answer_is_in_its_ids() -> None:
    bridge = Bridge(Script("a", "b"), environ={})
    for path in (PATHS[0], PATHS[1]):
        await read(await ask(bridge, path))

    assert [
        (record.message and record.message.response_id, record.headers.get(name))
        for record, name in zip(bridge.records, ("request-id", "x-request-id"), strict=True)
    ] == [("resp_0", "req_0"), ("resp_1", "req_1")]


async def test_a_refusal_comes_with_status_and_fields() -> None:
    script = Script(fail(429, message="Slow down", retry_after=0.5), "Fine.")

    refused = await ask(Bridge(script, environ={}))

    told = json.loads((await read(refused))[0])["error"]["message"]
    assert (refused.status, told) == (429, "Slow down")
    assert refused.headers["retry-after-ms"] == "500"


async def test_a_repeated_line_is_said_so_many_times() -> None:
    bridge = Bridge(Script(repeat("again", times=2), "last"), environ={})

    assert await heard(bridge, "a", "b", "c", "d") == ["again", "again", "last", None]


async def test_a_line_without_end_answers_for_ever() -> None:
    bridge = Bridge(Script("first", repeat("more")), environ={})

    assert await heard(bridge, "a", "b", "c") == ["first", "more", "more"]


async def test_rules_come_before_the_lines() -> None:
    script = Script("one", when("weather").say("Sunny."), "two")

    answers = await heard(Bridge(script, environ={}), "hi", "weather?", "hi", "weather?")

    assert answers == ["one", "Sunny.", "two", "Sunny."]


async def test_a_rule_may_hold_a_number_of_times() -> None:
    script = Script(when("hi").say(repeat(fail(500), times=2)), "Hello.")

    assert await heard(Bridge(script, environ={}), "hi", "hi", "hi") == [None, None, "Hello."]


async def test_every_session_hears_the_script_from_its_start() -> None:
    bridge = Bridge(Script("one", "two"), environ={})

    answers = [await heard(bridge, "hi", session=session) for session in ("a", "b", "a", None, "b")]

    assert answers == [["one"], ["one"], ["two"], ["one"], ["two"]]


async def test_a_script_that_runs_out_says_so() -> None:
    refused = await ask(Bridge(Script(), environ={}))

    error = json.loads((await read(refused))[0])["error"]
    assert (refused.status, refused.headers["x-should-retry"], error["message"]) == (
        400,
        "false",
        "the script's lines are all said (0) and it was asked once more: add one",
    )


async def test_rules_that_do_not_hold_are_told_too() -> None:
    refused = await ask(Bridge(Script(when("x").say("y")), environ={}))

    assert b"(0), none of its rules (1) holds, and it was asked" in (await read(refused))[0]


async def test_what_was_asked_is_kept() -> None:
    script = Script("one")
    await heard(Bridge(script, environ={}), "first", "second")

    assert [str(asked.context.messages[0].content) for asked in script.asked] == [
        "(Text(text='first', signature=None, refusal=False),)",
        "(Text(text='second', signature=None, refusal=False),)",
    ]


async def test_what_is_left_is_told() -> None:
    lines: tuple[Line, ...] = ("one", "two")
    script = Script(*lines, repeat("three", times=2), repeat("more"), when("x").say("y"))
    before = script.left

    await heard(Bridge(script, environ={}), "a", "b", "c")

    assert (before, script.left) == (("one", "two", "three", "three"), ("three",))


async def test_the_last_request_can_be_checked() -> None:
    script = Script("one")
    await heard(Bridge(script, environ={}), "hi")

    script.assert_called_with({"model": "m", "messages": [{"content": "hi"}]})
    with pytest.raises(AssertionError, match=r"differs: \$\.model: expected 'x', was 'm'"):
        script.assert_called_with({"model": "x"})


def test_a_script_that_was_not_asked_cannot_be_checked() -> None:
    with pytest.raises(AssertionError, match="was not asked"):
        Script("one").assert_called_with({})


async def test_embeddings_take_no_line() -> None:
    script = Script("one")

    reply = await ask(Bridge(script, environ={}), "/v1/embeddings")

    (only,) = json.loads((await read(reply))[0])["data"]
    assert (reply.status, len(only["embedding"]), script.left) == (200, 256, ("one",))


async def test_google_s_other_operations_are_refused_in_google_s_shape() -> None:
    path = "/google/v1beta/models/gemini-x:countTokens"

    refused = await ask(Bridge(Script("one"), environ={}), path)

    assert json.loads((await read(refused))[0])["error"] == {
        "code": 400,
        "message": f"a script cannot answer POST {path!r}, which is models: it speaks google.gemini",
        "status": "INVALID_ARGUMENT",
    }


async def test_what_cannot_be_scripted_is_refused() -> None:
    refused = await ask(Bridge(Script("one"), environ={}), "/v1/rerank")

    assert (refused.status, b", which is rerank: it speaks" in (await read(refused))[0]) == (
        400,
        True,
    )


@both
async def test_a_reply_has_the_pace_it_was_given(
    streaming: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, waits = [100.0], list[float]()

    async def sleep(seconds: float) -> None:
        waits.append(round(seconds, 3))
        clock[0] += seconds

    monkeypatch.setattr("llmbridge.upstreams.deadlines.monotonic", lambda: clock[0])
    monkeypatch.setattr("llmbridge.upstreams.deadlines.anyio.sleep", sleep)

    await said(Script("a b c", ttft=0.5, tps=10), streaming=streaming)

    assert waits == ([0.5, 0.1, 0.1] if streaming else [0.5, 0.2])


async def test_an_id_that_was_given_stays() -> None:
    (message,) = await said(Script(reply(ToolCall("mine", "clock"))))

    assert message.tool_calls[0].id == "mine"
