"""What an Anthropic stream says of its usage before it is over is not all of it."""

import pytest

from llmbridge.canon.messages import AssistantMessage, Usage
from llmbridge.exchange.call import Headers, Request
from llmbridge.exchange.entry import Entry
from llmbridge.exchange.record import Record
from llmbridge.exchange.rows import cost_of, interception_rows

START = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_1","type":"message",'
    b'"role":"assistant","model":"claude-sonnet-4-5","content":[],"usage":{"input_tokens":12,"output_tokens":1}}}\n\n'
)
COUNTED = (
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
    b'"usage":{"output_tokens":40}}\n\n'
)
ERROR = (
    b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Busy"}}\n\n'
)


def cut(*events: bytes) -> tuple[Record, AssistantMessage]:
    record = Record(
        "one",
        "anthropic",
        "anthropic.messages",
        Request("POST", "https://api.anthropic.com/v1/messages"),
        200,
        Headers({"content-type": "text/event-stream"}),
        tuple((0.1 * index, event) for index, event in enumerate(events)),
        end="interrupted",
        model="claude-sonnet-4-5",
    )
    assert record.message
    return record, record.message


@pytest.mark.parametrize("events", [(START,), (START, ERROR)])
def test_how_much_a_stream_said_that_broke_off_is_not_known(events: tuple[bytes, ...]) -> None:
    record, message = cut(*events)
    row = next(interception_rows([Entry("one", None, (record,))]))

    assert message.usage == Usage(12)
    assert cost_of(record, message) is None
    assert row[19:26] == (12, None, None, None, None, None, None)


def test_a_stream_that_broke_off_after_its_last_count_has_it() -> None:
    record, message = cut(START, COUNTED)
    price = cost_of(record, message)

    assert message.usage == Usage(12, output_tokens=40, total_tokens=52)
    assert price
    assert price > 0
