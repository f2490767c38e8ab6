"""Prometheus' numbers are the frames' numbers."""

import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from llmbridge.bridge import Bridge
from llmbridge.canon.messages import Usage
from llmbridge.errors import ConfigurationError, StoreUnavailable
from llmbridge.exchange.call import Request
from llmbridge.exchange.record import Interception
from llmbridge.exchange.recorder import utc_now
from llmbridge.frames.metrics import MOST_VALUES, MeteredStore
from llmbridge.stores.cassette import Cassette
from llmbridge.stores.memory import MemoryStore
from llmbridge.upstreams.lines import calls, fail, reply
from llmbridge.upstreams.script import Script

USAGE = Usage(7, 2, None, 5, 1, 14)


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    answer = reply("Let me look.", calls("clock", zone="é"), usage=USAGE)
    script = Script(answer, answer, fail(429))
    with Bridge(script, store=MeteredStore(), environ={}) as bridge:
        yield bridge


def ask(bridge: Bridge, url: str = "http://localhost") -> None:
    body = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "What time?"}]}
    with httpx2.Client(transport=bridge.transport()) as client:
        client.post(f"{url}/v1/chat/completions", json=body, headers={"x-llmbridge-actor": "ann"})


def samples(bridge: Bridge) -> dict[str, float]:
    """Each sample under its name and labels, times and buckets left out."""
    assert isinstance(bridge.store, MeteredStore)
    text = bridge.store.render_metrics().decode()
    return {
        f"{sample.name} {sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not re.search("_created|_bucket|_sum", sample.name)
    }


@pytest.mark.feature("aibridge", 13)
@pytest.mark.feature("gateway", 35)
def test_calls_tokens_prompts_and_tools_are_counted(bridge: Bridge) -> None:
    for _ in range(3):
        ask(bridge)

    who = "('client', 'python-httpx2/2.16.2'), ('initiator_id', 'ann')"
    found = {
        re.sub(r"python-httpx2/[\d.]+", "python-httpx2/2.16.2", name): value
        for name, value in samples(bridge).items()
    }
    model, provider = "('model', 'gpt-5-mini')", "('provider', 'openai')"
    asked = f"('method', 'POST'), {model}, {provider}, ('route', '/v1/chat/completions')"
    tokens = {
        kind: value
        for name, value in found.items()
        for kind in re.findall(r"^tokens_total .*'type', '(\w+)'", name)
    }
    first = who.split("), (")
    done = f"[{first[0]}), ({first[1]}, {asked}, ('status', 'completed')]"
    assert found[f"interceptions_total {done}"] == 2
    assert found[f"interceptions_total {done.replace('completed', 'failed')}"] == 1
    assert found[f"prompts_total [{who}, {model}, {provider}]"] == 3
    assert found[f"interceptions_duration_seconds_count [{model}, {provider}]"] == 3
    assert tokens == {"input": 14, "output": 10, "cache_read_input_tokens": 4, "reasoning": 2}
    name = "('name', 'clock')"
    assert found[f"non_injected_tool_selections_total [{model}, {name}, {provider}]"] == 2


@pytest.mark.feature("gateway", 35)
def test_the_sums_are_those_of_the_frames(bridge: Bridge) -> None:
    for _ in range(3):
        ask(bridge)

    used = bridge.frames.token_usage()
    counted = {"input": 0.0, "output": 0.0}
    for name, value in samples(bridge).items():
        for kind in re.findall(r"^tokens_total .*'type', '(input|output)'", name):
            counted[kind] += value

    assert counted == {
        "input": used["input_tokens"].sum(),
        "output": used["output_tokens"].sum(),
    }


def test_the_server_shows_them_to_holders_of_its_token(bridge: Bridge) -> None:
    server = bridge.serve(token="secret-token-1")
    ask(bridge)

    refused = httpx2.get(f"{server.url}/metrics")
    shown = httpx2.get(f"{server.url}/metrics", headers={"x-api-key": "secret-token-1"})

    assert (refused.status_code, shown.status_code) == (401, 200)
    assert shown.headers["content-type"] == "text/plain; charset=utf-8"
    assert "interceptions_total{" in shown.text


def test_without_a_metered_store_there_are_none() -> None:
    with Bridge(Script("Hi"), environ={}) as bridge, bridge.serve(token=None) as server:
        assert httpx2.get(f"{server.url}/metrics").status_code == 404


async def test_what_is_under_way_is_in_flight_until_it_ends() -> None:
    store = MeteredStore()
    request = Request("POST", "http://localhost/openai/v1/responses")
    under_way = Interception("i", utc_now(), request, provider="openai", model="m")

    await store.begin(under_way)
    during = store.render_metrics().decode()
    store.end(under_way)
    after = store.render_metrics().decode()
    store.close()

    line = 'interceptions_inflight{model="m",provider="openai",route="/v1/responses"} 1.0'
    assert (line in during, line in after) == (True, False)


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns all the time."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("restless")
async def test_scrapers_at_the_same_time_are_told_the_same() -> None:
    store = MeteredStore()
    request = Request("POST", "http://localhost/openai/v1/responses")
    for number in range(200):
        await store.begin(Interception(str(number), utc_now(), request, provider="openai"))

    with ThreadPoolExecutor(4) as scrapers:
        texts = list(scrapers.map(lambda _: store.render_metrics().decode(), range(40)))
    store.close()

    told = {line for text in texts for line in text.splitlines() if "_inflight{" in line}
    assert {line.partition(" ")[2] for line in told} == {"200.0"}


async def test_models_that_clients_make_up_do_not_fill_the_memory() -> None:
    store = MeteredStore()
    for number in range(MOST_VALUES + 10):
        name = f"m-{number}"
        request = Request("POST", f"http://localhost/v1beta/models/{name}:generateContent")
        made_up = Interception(
            str(number), utc_now(), request, provider="google", model=name, end="completed"
        )
        await store.begin(made_up)
        store.end(made_up)

    text = store.render_metrics().decode()
    store.close()

    assert 'model="other",provider="google",route="other"' in text
    assert f"m-{MOST_VALUES + 5}" not in text


def test_what_is_counted_may_be_kept_where_a_bridge_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "session.yaml"
    store = MeteredStore(path)
    with Bridge(Script("It is noon."), store=store) as bridge:
        bridge.openai().responses.create(model="gpt-5-mini", input="What time is it?")
        store.catch_up()

    assert b'prompts_total{client="OpenAI/Python"' in store.render_metrics()
    assert [record.model for record in Cassette.load(path)] == ["gpt-5-mini"]


def test_a_store_that_there_is_not_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match=r"store='usage.txt': give a path that ends in"):
        MeteredStore("usage.txt")


async def test_calls_that_the_store_refuses_are_counted() -> None:
    class Away(MemoryStore):
        async def begin(self, interception: Interception) -> None:
            raise StoreUnavailable("the database is away")

    with Bridge(Script("Hi."), store=MeteredStore(Away()), environ={}) as bridge:
        ask(bridge)

        assert samples(bridge) == {"store_failures_total []": 1}
