import json
from typing import Any

import pytest

from llmbridge import Bridge, Budget, Live, Provider, Script
from llmbridge.exchange.stream_usage import asking
from llmbridge.providers import PROVIDERS
from tests.upstreams.asking import client_of
from tests.upstreams.faulty import Provider as Upstream
from tests.upstreams.faulty import streams

HI: dict[str, Any] = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "hi"}]}
MANY = [Budget(usd=100)]


def chunks(bounded: bool, **options: Any) -> tuple[list[Any], Bridge]:
    """What a client gets of a stream of a provider, and the bridge that it came through."""
    with Bridge(Script("Hello there"), environ={}) as provider, provider.serve() as server:
        bridge = Bridge(
            Live(),
            base_urls={"openai": f"{server.url}/openai/v1"},
            budgets=MANY if bounded else [],
            environ={"OPENAI_API_KEY": "sk-x"},
        )
        with bridge, bridge.openai() as client:
            stream = client.chat.completions.create(**HI, stream=True, **options)
            return [chunk.to_dict() for chunk in stream], bridge


def without_ids(chunks: list[Any]) -> list[Any]:
    same = {"id": "c", "created": 0, "usage": None}
    return [{**chunk, **same} for chunk in chunks]


def test_usage_is_on_record_and_the_client_sees_nothing_of_it() -> None:
    plain, _ = chunks(bounded=False)
    got, bridge = chunks(bounded=True)
    usage = bridge.frames.token_usage()

    assert without_ids(got) == without_ids(plain)
    assert [chunk["usage"] for chunk in got if chunk.get("usage")] == []
    assert (usage["output_tokens"].tolist(), bridge.interceptions[0].end) == ([2], "completed")


def test_a_client_that_asks_for_usage_gets_it() -> None:
    got, bridge = chunks(bounded=True, stream_options={"include_usage": True})

    sent, received = bridge.records[0].request, bridge.interceptions[0].request
    assert (got[-1]["choices"], got[-1]["usage"]["completion_tokens"]) == ([], 2)
    assert sent is not None
    assert sent.body == received.body


async def test_completions_are_asked_too_and_only_that_chunk_is_kept_back() -> None:
    first = b'data: {"choices":[],"prompt_filter_results":[],"usage":null}\n\n'
    text = b'data: {"choices":[{"text":"\xc3\xa9"}], "usage" : null}\r\n\r\n'
    usage = b'data: {"choices": [], "usage": {"prompt_tokens": 5, "total_tokens": 7}}\n\n'
    comment, last = b": x\n\n", b"data: [DONE]\n\n"
    async with Upstream(streams(first, comment + text, usage + last)) as provider:
        bridge = Bridge(
            base_urls={"openai": provider.url},
            budgets=MANY,
            environ={"OPENAI_API_KEY": "sk-x"},
        )
        async with bridge, client_of(bridge) as client:
            body = b'{"model":"gpt-3.5-turbo-instruct","prompt":"hi","stream":true}'
            got = await client.post("/v1/completions", content=body)
            (record,) = bridge.records

    assert json.loads(provider.asked[0].body)["stream_options"] == {"include_usage": True}
    assert got.content == first + comment + text + last
    assert record.body == first + comment + text + usage + last


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        (b'{"a": 1.0}\n', b'{"a": 1.0,"stream_options":{"include_usage":true}}'),
        (b'{"stream_options":null,"a":1}', b'{"stream_options":{"include_usage":true},"a":1}'),
        (
            b'{"stream_options":{"include_obfuscation":false}}',
            b'{"stream_options":{"include_obfuscation":false,"include_usage":true}}',
        ),
        (
            b'{"stream_options":{"include_usage":false}}',
            b'{"stream_options":{"include_usage":true}}',
        ),
        (b'{"stream_options":{"include_usage":true}}', None),
        (b'{"stream_options":7}', None),
        (b'["stream_options"]', None),
        (b'{"stream_options', None),
        (b"", None),
    ],
)
def test_the_question_is_added_and_the_rest_stays(body: bytes, asked: bytes | None) -> None:
    assert asking(body) == asked


@pytest.mark.parametrize("streaming", [True, False])
def test_providers_that_do_not_know_the_option_are_not_asked(streaming: bool) -> None:
    with Bridge(Script("Hello"), environ={}) as provider, provider.serve() as server:
        team = Provider("team", f"{server.url}/openai/v1", keyless=True)
        bridge = Bridge(Live(), providers=[team], budgets=MANY, environ={})
        with bridge, bridge.openai(base_url="http://localhost/team/v1") as client:
            list(client.chat.completions.create(**HI, stream=streaming))
            sent = bridge.records[0].request

    assert sent is not None
    assert "stream_options" not in json.loads(sent.body)
    assert [row.name for row in PROVIDERS if row.stream_usage] == [
        "openai",
        "groq",
        "deepseek",
        "vllm",
        "azure",
    ]
