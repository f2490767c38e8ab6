"""What the official SDKs make of a script, through transports: no socket."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import openai
import pytest

from llmbridge.bridge import Bridge
from llmbridge.canon.messages import Thinking, Usage
from llmbridge.upstreams.lines import Line, calls, fail, reply
from llmbridge.upstreams.script import Script

HELLO: Any = [{"role": "user", "content": "Hello"}]
both = pytest.mark.parametrize("streaming", [True, False], ids=["stream", "block"])

TOLD: dict[str, tuple[Line, Any]] = {
    "text": ("It is noon.", [("text", "It is noon.")]),
    "a tool call": (calls("clock", zone="UTC"), [("tool", "clock", {"zone": "UTC"})]),
    "no arguments": (calls("clock"), [("tool", "clock", {})]),
    "blocks in order": (
        reply("Let me look.", calls("a", n=1), calls("b", text="é\n\u2028")),
        [("text", "Let me look."), ("tool", "a", {"n": 1}), ("tool", "b", {"text": "é\n\u2028"})],
    ),
    "thinking first": (
        reply(Thinking("Hm.", signature="c2ln"), "Noon."),
        [("thinking", "Hm."), ("text", "Noon.")],
    ),
    "an async function": (lambda ask: reply(ask.model), [("text", "m")]),
}
every_line = pytest.mark.parametrize(("line", "wanted"), TOLD.values(), ids=TOLD.keys())


@pytest.fixture
def bridges() -> Iterator[list[Bridge]]:
    opened: list[Bridge] = []
    yield opened
    for bridge in opened:
        bridge.close()


def anthropic_blocks(client: anthropic.Anthropic, streaming: bool) -> Any:
    words: Any = {"model": "m", "max_tokens": 9, "messages": HELLO}
    if streaming:
        with client.messages.stream(**words) as stream:
            message = stream.get_final_message()
    else:
        message = client.messages.create(**words)
    kinds: Any = {
        "text": lambda block: ("text", block.text),
        "thinking": lambda block: ("thinking", block.thinking),
        "tool_use": lambda block: ("tool", block.name, block.input),
    }
    return [kinds[block.type](block) for block in message.content]


def responses_blocks(client: openai.OpenAI, streaming: bool) -> Any:
    if streaming:
        with client.responses.stream(model="m", input="Hello") as stream:
            response: Any = stream.get_final_response()
    else:
        response = client.responses.create(model="m", input="Hello")
    kinds: Any = {
        "message": lambda item: ("text", item.content[0].text),
        "reasoning": lambda item: ("thinking", "".join(part.text for part in item.summary)),
        "function_call": lambda item: ("tool", item.name, json.loads(item.arguments)),
    }
    return [kinds[item.type](item) for item in response.output]


def chat_blocks(client: openai.OpenAI, streaming: bool) -> Any:
    words: Any = {"model": "m", "messages": HELLO}
    if streaming:
        with client.chat.completions.stream(**words) as stream:
            message: Any = stream.get_final_completion().choices[0].message
    else:
        message = client.chat.completions.create(**words).choices[0].message
    blocks: list[Any] = []
    if thought := getattr(message, "reasoning_content", None):
        blocks.append(("thinking", thought))
    if message.content:
        blocks.append(("text", message.content))
    functions = [call.function for call in message.tool_calls or ()]
    return blocks + [("tool", each.name, json.loads(each.arguments)) for each in functions]


@both
@every_line
def test_anthropic_reads_every_line(
    line: Line, wanted: Any, streaming: bool, bridges: list[Bridge]
) -> None:
    bridges.append(Bridge(Script(line), environ={}))

    assert anthropic_blocks(bridges[0].anthropic(), streaming) == wanted


@both
@every_line
def test_openai_reads_every_line_as_a_response(
    line: Line, wanted: Any, streaming: bool, bridges: list[Bridge]
) -> None:
    bridges.append(Bridge(Script(line), environ={}))

    assert responses_blocks(bridges[0].openai(), streaming) == wanted


@both
@every_line
def test_openai_reads_every_line_as_a_completion(
    line: Line, wanted: Any, streaming: bool, bridges: list[Bridge]
) -> None:
    bridges.append(Bridge(Script(line), environ={}))

    assert chat_blocks(bridges[0].openai(), streaming) == wanted


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "BadRequestError"),
        (401, "AuthenticationError"),
        (404, "NotFoundError"),
        (429, "RateLimitError"),
        (500, "InternalServerError"),
    ],
)
@pytest.mark.parametrize("sdk", [anthropic, openai], ids=["anthropic", "openai"])
def test_a_refusal_is_the_sdks_own_exception(
    sdk: Any, status: int, kind: str, bridges: list[Bridge]
) -> None:
    bridges.append(Bridge(Script(fail(status, message="No.")), environ={}))
    asking: dict[Any, Callable[[], Any]] = {
        openai: lambda: responses_blocks(bridges[0].openai(max_retries=0), False),
        anthropic: lambda: anthropic_blocks(bridges[0].anthropic(max_retries=0), False),
    }

    with pytest.raises(getattr(sdk, kind)) as raised:
        asking[sdk]()

    body = raised.value.body
    assert (body["error"] if sdk is anthropic else body)["message"] == "No."


@pytest.mark.parametrize("sdk", ["anthropic", "openai"])
def test_sdks_wait_as_long_as_they_are_told_and_go_on(sdk: str, bridges: list[Bridge]) -> None:
    script = Script(fail(529, retry_after=0.001), fail(429, retry_after=0.001), "Fine.")
    bridges.append(Bridge(script, environ={}))

    if sdk == "openai":
        said = responses_blocks(bridges[0].openai(max_retries=2), False)
    else:
        said = anthropic_blocks(bridges[0].anthropic(max_retries=2), False)

    assert (said, len(script.asked)) == ([("text", "Fine.")], 3)


def test_usage_arrives_in_the_providers_words(bridges: list[Bridge]) -> None:
    line = reply("x", usage=Usage(10, 5, None, 3, None, 18))
    bridges.append(Bridge(Script(line, line), environ={}))

    one = bridges[0].anthropic().messages.create(model="m", max_tokens=9, messages=HELLO).usage
    other = bridges[0].openai().responses.create(model="m", input="Hello").usage

    assert (one.input_tokens, one.cache_read_input_tokens, one.output_tokens) == (10, 5, 3)
    assert other is not None
    assert (other.input_tokens, other.output_tokens, other.total_tokens) == (15, 3, 18)


def test_embeddings_are_vectors(bridges: list[Bridge]) -> None:
    bridges.append(Bridge(Script(), environ={}))

    made = bridges[0].openai().embeddings.create(model="m", input=["a", "b"], dimensions=4)

    assert [len(each.embedding) for each in made.data] == [4, 4]


async def test_async_sdks_are_answered_too() -> None:
    bridge = Bridge(Script("One.", "Two."), environ={})
    async with bridge.async_anthropic() as first, bridge.async_openai() as second:
        one = await first.messages.create(model="m", max_tokens=9, messages=HELLO)
        two = await second.responses.create(model="m", input="Hello")

    assert (one.content[0], two.output_text) == (
        anthropic.types.TextBlock(type="text", text="One.", citations=None),
        "Two.",
    )
