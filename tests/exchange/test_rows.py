import json
import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from llmbridge import frames
from llmbridge.exchange.call import Caller, Headers
from llmbridge.exchange.columns import FRAMES
from llmbridge.exchange.pricing import cost_usd
from llmbridge.exchange.record import Interception, Record
from llmbridge.frames.table import as_frame
from tests.samples import EXPECTED, NOON, Shelf, asked, at_border, body, ended, record, request

TWO_SECONDS = timedelta(seconds=2)


def raw(dialect: str, name: str) -> str:
    return json.dumps(EXPECTED[dialect][name]["usage_raw"], separators=(",", ":"))


def price(made: Record) -> float | None:
    assert made.message is not None
    return cost_usd(made.provider, made.message.model, made.message.usage, NOON)


def frame(name: str, *rows: Any) -> pd.DataFrame:
    return as_frame(FRAMES[name], rows)


# interceptions


def test_an_interception_is_told_by_itself_and_by_its_rounds():
    call = asked("i1", actor="alice", client="Claude Code", session_id="s1", fault="stall")
    first = record("anthropic.messages", "thinking_tool_call.sse")
    second = record("anthropic.messages", "cache_read.sse", round=1, replayed=True)
    stream = body("anthropic.messages", "thinking_tool_call.sse")
    answer = body("anthropic.messages", "cache_read.sse")
    uses = [
        EXPECTED["anthropic.messages"][n]["usage_raw"]
        for n in ("thinking_tool_call.sse", "cache_read.sse")
    ]
    fresh = sum(use["input_tokens"] for use in uses)
    read = sum(use["cache_read_input_tokens"] for use in uses)
    output = sum(use["output_tokens"] for use in uses)

    found = frames.interceptions(Shelf([ended(call)], [second, first]))

    row = (
        *("i1", NOON, NOON + timedelta(seconds=9), 9.0, 0.5, "asgi", "alice", "Claude Code", "s1"),
        *("anthropic", "anthropic.messages", "claude-sonnet-5", True, 2, 200, "completed"),
        *(None, None, "stop"),
        *(fresh, read, 0, output, None, fresh + read + output),
        (price(first) or 0) + (price(second) or 0),
        (stream + answer).count(b"data:"),
        len(stream + answer),
        *(True, "stall", "end_turn", "claude-latest"),
        *('["anthropic"]', '["anthropic.messages"]', '["claude-latest","claude-sonnet-5"]', True),
        *(None, None),
    )
    assert_frame_equal(found, frame("interceptions", row).set_index("interception_id"))


def test_a_record_alone_tells_of_its_interception():
    made = record("openai.chat", "error_400.json", request=request({"stream": True}), timed=False)
    error = EXPECTED["openai.chat"]["error_400.json"]["error"]

    found = frames.interceptions([made])

    row = (
        *("i1", NOON, NOON + TWO_SECONDS, 2.0, None, None, None, None, None),
        *("openai", "openai.chat", "gpt-4o-mini", True, 1, 400, "upstream_error"),
        *(error["type"], error["message"], "error"),
        *(None, None, None, None, None, None, None),
        *(0, len(made.body), False, None, None, "gpt-4o-mini"),
        *('["openai"]', '["openai.chat"]', '["gpt-4o-mini"]', True),
        *(None, None),
    )
    assert_frame_equal(found, frame("interceptions", row).set_index("interception_id"))


@pytest.mark.feature("gateway", 11)
def test_what_is_known_of_the_actor_is_told():
    asked = replace(request({}), caller=Caller(actor="alice", metadata={"team": "röd", "n": "1"}))

    row = frames.interceptions(Shelf([Interception("i1", NOON, asked, actor="alice")])).iloc[0]

    assert row[["actor", "actor_metadata"]].tolist() == ["alice", '{"team":"röd","n":"1"}']


CALLED = {"role": "assistant", "tool_calls": [{"id": "c0", "function": {"name": "f"}}]}
RESULTS = [{"role": "tool", "tool_call_id": id, "content": "x"} for id in ("c1", "c2")]
ANTHROPIC = [
    {"type": "tool_result", "tool_use_id": "t1", "content": "x"},
    {"type": "tool_result", "tool_use_id": "t2", "content": "y"},
    {"type": "text", "text": "and now?"},
]
ITEMS = [{"type": "function_call_output", "call_id": id, "output": "x"} for id in ("r1", "r2")]


@pytest.mark.feature("gateway", 18)
@pytest.mark.parametrize(
    ("dialect", "asked", "id"),
    [
        ("openai.chat", {"messages": [CALLED, *RESULTS]}, "c2"),
        ("openai.chat", {"messages": [CALLED, *RESULTS, {"role": "user", "content": "?"}]}, "c2"),
        ("openai.chat", {"messages": [CALLED, *RESULTS, CALLED]}, None),
        ("openai.chat", {"messages": [{"role": "user", "content": "?"}]}, None),
        ("anthropic.messages", {"messages": [{"role": "user", "content": ANTHROPIC}]}, "t2"),
        ("openai.responses", {"input": ITEMS}, "r2"),
        ("openai.responses", {"input": "hi"}, None),
        ("opaque", {}, None),
    ],
)
def test_a_call_that_brings_results_names_the_tool_call_that_it_answers(dialect, asked, id):
    told = Interception("i1", NOON, request(asked), dialect=dialect)

    found = frames.interceptions(Shelf([told]))["correlating_tool_call_id"]

    assert found.isna().all() if id is None else found.tolist() == [id]


def test_an_interception_under_way_has_no_end():
    row = frames.interceptions(Shelf([Interception("i1", NOON, request({}))])).iloc[0]

    assert row[["rounds", "bytes", "events"]].tolist() == [0, 0, 0]
    assert row[["ended_at", "duration_s", "ttft_s", "status", "end", "input_tokens"]].isna().all()


def test_a_record_that_knows_no_times_has_none():
    made = record("openai.chat", "text.json", started_at=None, duration_s=None, timed=False)

    row = frames.interceptions([made]).iloc[0]

    assert row[["started_at", "ended_at", "duration_s", "ttft_s"]].isna().all()


def test_the_first_byte_is_waited_for_through_failed_rounds():
    failed = record("openai.chat", "error_429.json")
    served = record("openai.chat", "text.sse", round=1, started_at=NOON + timedelta(seconds=3))

    assert frames.interceptions([failed, served])["ttft_s"].tolist() == [3.5]


def test_an_empty_piece_is_no_first_byte():
    made = record("openai.chat", "text.sse", chunks=((0.1, b""), (0.7, b"data: {}\n\n")))

    assert frames.interceptions([made])["ttft_s"].tolist() == [0.7]


def test_a_round_without_a_price_leaves_the_sum_open():
    priced = record("openai.chat", "text.sse")
    unpriced = record("openai.chat", "text.sse", provider="ollama", round=1)

    assert frames.interceptions([priced, unpriced])["cost_usd"].isna().all()


@pytest.mark.feature("gateway", 13)
def test_an_error_of_the_bridge_goes_before_the_providers():
    told = Interception("i1", NOON, request({}), error_type="timeout", error="too slow")
    shelf = Shelf([told], [record("openai.chat", "error_400.json")])

    assert frames.interceptions(shelf)[["error_type", "error"]].iloc[0].tolist() == [
        "timeout",
        "too slow",
    ]


# token_usage


@pytest.mark.feature("aibridge", 11)
@pytest.mark.feature("gateway", 14)
def test_every_answer_with_usage_has_a_row():
    chat = record("openai.chat", "cached.sse", key_hint="sk-a...0001")
    silent = record("openai.chat", "usage_absent.sse")
    failed = record("anthropic.messages", "error_529.json", id="i2")
    message = record("anthropic.messages", "cache_write.json", id="i2", round=1)
    used = EXPECTED["anthropic.messages"]["cache_write.json"]["usage_raw"]
    written, fresh, output = (
        used[name] for name in ("cache_creation_input_tokens", "input_tokens", "output_tokens")
    )

    found = frames.token_usage([chat, silent, failed, message])

    expected = frame(
        "token_usage",
        (
            *("i1", 0, EXPECTED["openai.chat"]["cached.sse"]["response_id"], NOON + TWO_SECONDS),
            *("openai", "gpt-4o-mini-2024-07-18", 122, 1280, None, 6, 0, 1408),
            *(price(chat), raw("openai.chat", "cached.sse"), "sk-a...0001"),
        ),
        (
            *("i2", 1, EXPECTED["anthropic.messages"]["cache_write.json"]["response_id"]),
            *(NOON + TWO_SECONDS, "anthropic", "claude-sonnet-5", fresh, 0, written, output, None),
            *(
                fresh + written + output,
                price(message),
                raw("anthropic.messages", "cache_write.json"),
                None,
            ),
        ),
    )
    assert_frame_equal(found, expected)


def test_the_price_may_need_the_name_that_was_asked_for():
    asked = "meta-llama/Llama-3.3-70B-Instruct:together"
    answered = asked.partition(":")[0]
    stream = body("openai.chat", "text.sse").replace(b"gpt-4o-mini-2024-07-18", answered.encode())
    made = record(
        "openai.chat", "text.sse", provider="huggingface", model=asked, chunks=((0.5, stream),)
    )

    found = frames.token_usage([made]).iloc[0]

    assert (found["model"], found["cost_usd"] > 0) == (answered, True)


def test_another_model_than_asked_for_is_not_paid_like_it():
    made = record("openai.chat", "reasoning_content.json", model="gpt-4o")

    assert frames.token_usage([made])["cost_usd"].isna().all()


# prompts

HELLO = {"role": "user", "content": "Hello"}
TOOL_RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": "noon"}


def texts(*said: str, type: str = "text") -> dict[str, Any]:
    return {"role": "user", "content": [{"type": type, "text": text} for text in said]}


PROMPTS = [
    ("anthropic.messages", {"messages": [HELLO]}, "Hello"),
    ("anthropic.messages", {"messages": [texts("<reminder>", "Hello\n")]}, "Hello\n"),
    ("anthropic.messages", {"messages": [HELLO, {"role": "assistant", "content": "Hi"}]}, None),
    ("anthropic.messages", {"messages": [HELLO, {"role": "user", "content": [TOOL_RESULT]}]}, None),
    (
        "anthropic.messages",
        {
            "messages": [
                {"role": "user", "content": [TOOL_RESULT, {"type": "text", "text": "Go on"}]}
            ]
        },
        "Go on",
    ),
    ("anthropic.messages", {"messages": "Hello"}, None),
    ("anthropic.messages", [], None),
    ("anthropic.messages", b"\xff", None),
    ("openai.chat", {"messages": [{"role": "system", "content": "Be brief"}, HELLO]}, "Hello"),
    ("openai.chat", {"messages": [texts("one", "two")]}, "two"),
    ("openai.chat", {"messages": [{"role": "user", "content": ""}]}, None),
    (
        "openai.chat",
        {"messages": [HELLO, {"role": "tool", "tool_call_id": "c", "content": "x"}]},
        None,
    ),
    ("openai.responses", {"input": "Hello"}, "Hello"),
    ("openai.responses", {"input": [HELLO]}, "Hello"),
    ("openai.responses", {"input": [texts("one", "two", type="input_text")]}, "one\ntwo"),
    (
        "openai.responses",
        {"input": [HELLO, {"type": "function_call_output", "call_id": "c", "output": "x"}]},
        None,
    ),
    ("openai.responses", {"input": 5}, None),
    ("opaque", {"prompt": "Hello"}, None),
]


@pytest.mark.feature("aibridge", 10, 11)
@pytest.mark.parametrize(("dialect", "asked", "prompt"), PROMPTS, ids=str)
@pytest.mark.feature("gateway", 15)
def test_a_prompt_is_what_the_user_said_last(dialect, asked, prompt):
    name = "completion.sse" if dialect == "opaque" else "text.sse"
    made = record(dialect, name, request=request(asked))

    found = frames.prompts([made])

    said = EXPECTED[dialect][name]["response_id"]
    rows = [("i1", said, NOON + TWO_SECONDS, prompt)] if prompt else []
    assert_frame_equal(found, frame("prompts", *rows))


@pytest.mark.feature("gateway", 15)
def test_a_prompt_is_told_once_however_many_rounds_follow():
    first = record("anthropic.messages", "tool_call.sse", request=request({"messages": [HELLO]}))
    second = replace(first, round=1)

    assert frames.prompts([first, second])["prompt"].tolist() == ["Hello"]


def test_the_prompt_is_the_clients_own_even_if_an_interceptor_changed_it():
    told = Interception("i1", NOON, request({"messages": [HELLO]}), dialect="anthropic.messages")
    sent = record(
        "anthropic.messages", "text.sse", request=request({"messages": [texts("changed")]})
    )

    assert frames.prompts(Shelf([told], [sent]))["prompt"].tolist() == ["Hello"]


def test_a_client_dialect_without_a_codec_shows_what_the_provider_was_asked():
    told = Interception("i1", NOON, request({"context": {}}), dialect="proxy.stream")
    sent = record("anthropic.messages", "text.sse", request=request({"messages": [HELLO]}))

    assert frames.prompts(Shelf([told], [sent]))["prompt"].tolist() == ["Hello"]


def test_a_call_that_was_refused_still_had_a_prompt():
    told = Interception("i1", NOON, request({"messages": [HELLO]}), dialect="openai.chat")

    found = frames.prompts(Shelf([told]))

    assert_frame_equal(found, frame("prompts", ("i1", None, NOON, "Hello")))


# tool_calls


@pytest.mark.feature("aibridge", 11)
@pytest.mark.feature("gateway", 16)
def test_every_tool_call_has_a_row_the_providers_own_too():
    parallel = record("anthropic.messages", "parallel_tool_calls.sse")
    search = record("anthropic.messages", "server_tools.sse", id="i2")

    found = frames.tool_calls([parallel, search])

    expected = [
        (
            *(made.interception_id, 0, said["response_id"], call["id"], call["name"]),
            json.dumps(call["arguments"], separators=(",", ":"), ensure_ascii=False),
            *(False, None if key == "tool_calls" else "provider", None, None, None),
            NOON + TWO_SECONDS,
        )
        for made, name in ((parallel, "parallel_tool_calls.sse"), (search, "server_tools.sse"))
        for said in [EXPECTED["anthropic.messages"][name]]
        for key in ("tool_calls", "server_tool_calls")
        for call in said.get(key, [])
    ]
    assert_frame_equal(found, frame("tool_calls", *expected))


@pytest.mark.parametrize(
    ("name", "outcome"),
    [("noon", ["noon", None]), ("broken", [None, "broken"])],
)
def test_a_call_that_the_next_round_answers_was_run_by_the_bridge(name, outcome):
    asked = record("anthropic.messages", "tool_call.sse")
    call = EXPECTED["anthropic.messages"]["tool_call.sse"]["tool_calls"][0]
    told = {
        "type": "tool_result",
        "tool_use_id": call["id"],
        "content": name,
        "is_error": name == "broken",
    }
    answered = record(
        "anthropic.messages",
        "text.sse",
        round=1,
        started_at=NOON + timedelta(seconds=5),
        request=request({"messages": [{"role": "user", "content": [told]}]}),
    )

    found = frames.tool_calls([asked, answered]).iloc[0]

    assert found["injected"]
    assert found[["result", "error"]].replace({float("nan"): None}).tolist() == outcome
    assert found["duration_s"] == 3.0


@pytest.mark.parametrize(
    ("dialect", "name"),
    [
        (dialect, name)
        for dialect, said in EXPECTED.items()
        for name, reply in said.items()
        if reply.get("tool_calls")
    ],
)
def test_arguments_are_always_json(dialect, name):
    arguments = frames.tool_calls([record(dialect, name)])["arguments"]

    assert [json.loads(text) is not None for text in arguments] == [True] * len(arguments)


# thoughts


@pytest.mark.feature("gateway", 17)
def test_every_thinking_block_with_text_has_a_row():
    names = {
        "anthropic.messages": ["thinking.sse", "thinking_redacted.sse"],
        "openai.responses": ["reasoning.json"],
        "openai.chat": ["reasoning_content.json", "text.json"],
    }
    records = [record(d, name, id=f"{d} {name}") for d, of in names.items() for name in of]

    found = (
        frames.thoughts(records).groupby(["interception_id", "source"], sort=False)["content"].sum()
    )

    said = {f"{d} {name}": EXPECTED[d][name]["reasoning"] for d, of in names.items() for name in of}
    assert found.droplevel("source").to_dict() == {id: text for id, text in said.items() if text}
    assert found.index.get_level_values("source").unique().tolist() == [
        "thinking",
        "reasoning_summary",
        "reasoning",
    ]


@pytest.mark.feature("gateway", 17)
@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "block"])
def test_what_a_model_says_beside_its_answer_has_a_row(streamed):
    def said(phase, text):
        content = [{"type": "output_text", "text": text, "annotations": []}]
        return {"type": "message", "role": "assistant", "phase": phase, "content": content}

    items = [said("commentary", "I look."), said("commentary", ""), said("final_answer", "Noon.")]
    whole = {"id": "r", "object": "response", "status": "completed", "output": items}
    told = [{"type": "response.output_item.done", "item": item} for item in items]
    events = [*told, {"type": "response.completed", "response": whole}]
    stream = "".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n" for each in events)
    body = (stream if streamed else json.dumps(whole)).encode()
    label = "text/event-stream" if streamed else "application/json"
    made = Record(
        "i1",
        "openai",
        "openai.responses",
        None,
        200,
        Headers([("content-type", label)]),
        ((0.1, body),),
    )

    found = frames.thoughts([made])

    assert found[["source", "content"]].to_numpy().tolist() == [["commentary", "I look."]]


# events


def test_every_event_of_the_wire_has_a_row_pings_too():
    seconds = (0.25, 0.5, 0.5, 1.0, 3.0)
    chunks = at_border("anthropic.messages", "text.sse", *seconds)
    made = record("anthropic.messages", "text.sse", chunks=chunks)
    sizes = [len(chunk.partition(b"data: ")[2].rstrip(b"\n")) for _, chunk in chunks]
    start, words = "content_block_start", "content_block_delta"
    said = made.message.text if made.message else ""

    found = frames.events([made])

    expected = frame(
        "events",
        ("i1", 0, 0, 0.25, None, "message_start", "start", None, sizes[0]),
        ("i1", 0, 1, 0.5, 0.25, start, "text_start", None, sizes[1]),
        ("i1", 0, 2, 0.5, 0.0, "ping", None, None, sizes[2]),
        ("i1", 0, 3, 1.0, 0.5, words, "text_delta", found["delta"][3], sizes[3]),
        ("i1", 0, 4, 3.0, 2.0, words, "text_delta", found["delta"][4], sizes[4]),
    )
    assert_frame_equal(found, expected)
    assert said == "".join(found["delta"].dropna())


@pytest.mark.parametrize("name", ["unicode.sse", "crlf.sse", "unterminated.sse"])
@pytest.mark.parametrize("dialect", ["anthropic.messages", "openai.chat", "openai.responses"])
def test_the_deltas_make_the_text(dialect, name):
    found = frames.events([record(dialect, name)])

    assert "".join(found["delta"].dropna()) == EXPECTED[dialect][name]["text"]


def test_times_that_were_not_recorded_are_not_told():
    found = frames.events([record("openai.chat", "text.sse", timed=False)])

    assert found[["time_s", "gap_s"]].isna().all(axis=None)


def test_rounds_are_timed_each_by_itself():
    made = record("openai.chat", "text.sse")

    found = frames.events([made, replace(made, round=1)])

    assert found.loc[found["gap_s"].isna(), "index"].tolist() == [0, 0]


def test_a_blocking_answer_has_no_events():
    assert frames.events([record("openai.chat", "text.json")]).empty


# all of them

ALL = [
    record(dialect, name, id=f"{dialect} {name}")
    for dialect, said in EXPECTED.items()
    for name in said
]


def test_sums_agree_with_the_frames_they_sum():
    ids = frames.interceptions(ALL)

    used = frames.token_usage(ALL).groupby("interception_id")["total_tokens"].sum(min_count=1)
    came = frames.events(ALL).groupby("interception_id").size()

    assert used.reindex(ids.index).equals(ids["total_tokens"])
    assert came.reindex(ids.index, fill_value=0).tolist() == ids["events"].tolist()


@pytest.mark.parametrize("count", ['"7"', "[7]", "1.5", "true", "-7", str(2**62), str(10**400)])
def test_what_is_no_count_is_not_known(count):
    """Taken for one, it breaks the sums of a frame, of a database, of budgets."""
    counts = re.compile(rb'((_tokens|TokenCount)": ?)[0-9]+')
    bodies = [counts.sub(rb"\g<1>" + count.encode(), each.body) for each in ALL]
    odd = [replace(each, chunks=((0.5, said),)) for each, said in zip(ALL, bodies, strict=True)]

    found = frames.interceptions(odd)

    assert found.filter(regex="_tokens|cost_usd").fillna(0).eq(0).all(axis=None)


@pytest.mark.parametrize("sent", [b"[]", b'"text"', b"7", b"null", b"no JSON", b""])
def test_a_request_that_is_no_object_asks_nothing_and_is_no_fault(sent, caplog):
    found = frames.prompts(Shelf([asked("i1", request=request(sent))]))

    assert (len(found), caplog.text) == (0, "")


@pytest.mark.parametrize("name", FRAMES)
def test_frames_join_by_interception_id(name):
    starts = frames.interceptions(ALL)[["started_at"]]
    found = getattr(frames, name)(ALL)

    joined = found.merge(starts, on="interception_id", validate="m:1")

    assert len(joined) == len(found)


@pytest.mark.parametrize("name", FRAMES)
def test_parquet_keeps_every_dtype(name, tmp_path):
    frame = getattr(frames, name)(ALL)

    frame.to_parquet(tmp_path / "frame.parquet")

    assert_frame_equal(pd.read_parquet(tmp_path / "frame.parquet"), frame)


@pytest.mark.parametrize("name", FRAMES)
@given(data=st.data())
def test_no_cut_or_garbled_answer_breaks_a_frame(name, data):
    whole = data.draw(st.sampled_from(ALL))
    cut = data.draw(st.integers(0, len(whole.body)))
    garbage = data.draw(st.binary(max_size=20))
    text = whole.body[:cut] + garbage + whole.body[cut + data.draw(st.integers(0, 40)) :]
    sent = data.draw(st.none() | st.binary(max_size=40).map(request))

    odd = replace(
        whole,
        status=data.draw(st.sampled_from([200, 400, 0])),
        headers=data.draw(st.sampled_from([whole.headers, Headers()])),
        chunks=((0.1, text[: cut // 2]), (0.2, text[cut // 2 :])),
        request=sent,
        started_at=data.draw(st.sampled_from([None, NOON, NOON.replace(tzinfo=None)])),
        duration_s=data.draw(st.none() | st.floats()),
    )

    assert getattr(frames, name)([odd]).dtypes.equals(getattr(frames, name)([]).dtypes)


def test_a_codec_that_trips_leaves_its_cells_empty_and_says_so(caplog):
    class Tripping(Record):
        @property
        def message(self) -> Any:
            raise TypeError("a bug")

    good = record("openai.chat", "text.sse")
    bad = Tripping(**{**vars(good), "interception_id": "bad"})

    found = frames.token_usage([bad, good])

    assert found["interception_id"].tolist() == ["i1"]
    assert "interception 'bad' cannot be decoded" in caplog.text
