"""The columns of every frame: name, dtype, what it means. The order is fixed; further columns come at the end."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

Dtype = Literal["str", "Int64", "float64", "Float64", "boolean", "datetime64[us, UTC]"]
"""Text is Arrow-backed. Counts, money and facts can be missing; a duration that is not known is NaN."""

TEXT: Dtype = "str"
COUNT: Dtype = "Int64"
SECONDS: Dtype = "float64"
MONEY: Dtype = "Float64"
FACT: Dtype = "boolean"
TIME: Dtype = "datetime64[us, UTC]"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a frame."""

    name: str
    dtype: Dtype
    meaning: str


_INT64 = 2**63


def fitted(column: Column, value: object) -> object:
    """The value as a cell of that column can hold it."""
    match column.dtype:
        case "str":
            return None if value is None else str(value)
        case "Int64":
            # A number that the column cannot hold is not known.
            return value if isinstance(value, int) and -_INT64 <= value < _INT64 else None
        case _:
            return value


_ID = Column("interception_id", TEXT, "the interception; joins all frames")
_ROUND = Column("round", COUNT, "number of the exchange within the interception, from 0")
_RESPONSE_ID = Column("response_id", TEXT, "the provider's id of the answer")
_RECORDED_AT = Column("recorded_at", TIME, "when the answer was complete")
_MODEL = Column("model", TEXT, "the model that answered, else the one asked for")
_TOKENS = (
    Column("input_tokens", COUNT, "uncached input"),
    Column("cache_read_tokens", COUNT, "input read from the provider's cache"),
    Column("cache_write_tokens", COUNT, "input written to the provider's cache"),
    Column("output_tokens", COUNT, "output, reasoning included"),
    Column("reasoning_tokens", COUNT, "the part of the output that is reasoning"),
    Column("total_tokens", COUNT, "the provider's own total"),
)
_COST = Column("cost_usd", MONEY, "list price by genai-prices; NA where it has none")

INTERCEPTIONS = (
    _ID,
    Column("started_at", TIME, "when the request came in"),
    Column("ended_at", TIME, "when the last byte was delivered, or it broke off"),
    Column("duration_s", SECONDS, "from started_at to ended_at"),
    Column("ttft_s", SECONDS, "from the request being sent to the first byte of the answer"),
    Column("frontend", TEXT, "how the client came in"),
    Column("actor", TEXT, "who asked"),
    Column("client", TEXT, "the client program"),
    Column("session_id", TEXT, "the client's session"),
    Column("provider", TEXT, "who was asked"),
    Column("dialect", TEXT, "how the client spells it"),
    _MODEL,
    Column("streaming", FACT, "the client asked for a stream"),
    Column("rounds", COUNT, "exchanges with the provider: tool loop and retries make several"),
    Column("status", COUNT, "HTTP status"),
    Column("end", TEXT, "how it ended: completed, truncated, client_gone, ..."),
    Column("error_type", TEXT, "the kind of error, in the provider's or the bridge's word"),
    Column("error", TEXT, "the error message"),
    Column("stop_reason", TEXT, "why the last answer stopped: stop, length, tool_use, ..."),
    *_TOKENS,
    _COST,
    Column("events", COUNT, "server-sent events; 0 for blocking answers"),
    Column("bytes", COUNT, "size of the answers' bodies"),
    Column("replayed", FACT, "a recording answered"),
    Column("fault", TEXT, "the fault that was injected"),
    Column("stop", TEXT, "the provider's own word for stop_reason"),
    Column("asked_model", TEXT, "the model asked for"),
    Column("providers", TEXT, "all who were asked, as JSON: what the filter `provider` looks at"),
    Column("dialects", TEXT, "the client's and the providers', as JSON: for the filter `dialect`"),
    Column("models", TEXT, "all asked for and all that answered, as JSON: for the filter `model`"),
    Column("bodies", FACT, "False where prompts and answers were not to be recorded"),
    Column("actor_metadata", TEXT, "what else is known of the actor, as JSON"),
    Column("correlating_tool_call_id", TEXT, "the tool call whose result this call brings last"),
)
"""One row per interception, interception_id as the index; tokens, cost, events and bytes are sums over its rounds."""

TOKEN_USAGE = (
    _ID,
    _ROUND,
    _RESPONSE_ID,
    _RECORDED_AT,
    Column("provider", TEXT, "who answered"),
    _MODEL,
    *_TOKENS,
    _COST,
    Column("usage_raw", TEXT, "the provider's own numbers, as JSON"),
    Column("key_hint", TEXT, "the key that was used, masked; NA for recordings"),
)
"""One row per answer that reports usage."""

PROMPTS = (
    _ID,
    _RESPONSE_ID,
    _RECORDED_AT,
    Column("prompt", TEXT, "what the user said last, untouched"),
)
"""One row per interception whose last message is the user's: about one per human turn, none for tool results."""

TOOL_CALLS = (
    _ID,
    _ROUND,
    _RESPONSE_ID,
    Column("tool_call_id", TEXT, "the provider's id of the call"),
    Column("name", TEXT, "the tool"),
    Column(
        "arguments",
        TEXT,
        "as JSON, always valid: of a call cut short, what it determines; NA where bodies are not recorded",
    ),
    Column("injected", FACT, "it was for the bridge to run, and the client has not seen it"),
    Column("server", TEXT, "who ran it: an MCP server's name; provider where that ran it itself"),
    Column("result", TEXT, "what the tool answered, where the bridge ran it"),
    Column("error", TEXT, "the same, where that was an error; or why the bridge did not run it"),
    Column("duration_s", SECONDS, "how long it ran, where the bridge ran it"),
    _RECORDED_AT,
)
"""One row per tool call in an answer."""

THOUGHTS = (
    _ID,
    Column(
        "source",
        TEXT,
        "thinking (Anthropic), reasoning_summary, commentary (Responses) or reasoning",
    ),
    Column("content", TEXT, "the text"),
    _ROUND,
    _RESPONSE_ID,
    _RECORDED_AT,
)
"""One row per thinking block that can be read, and per text of Responses in the phase `commentary`."""

EVENTS = (
    _ID,
    _ROUND,
    Column("index", COUNT, "number of the event within the round, from 0"),
    Column("time_s", SECONDS, "since the request was sent; NaN where times were not recorded"),
    Column("gap_s", SECONDS, "since the event before; NaN for the first"),
    Column("event", TEXT, "its name on the wire; message where it has none"),
    Column("type", TEXT, "the last thing it means: text_delta, tool_call_end, done, ..."),
    Column("delta", TEXT, "the text, thinking or arguments it adds"),
    Column("bytes", COUNT, "size of its data"),
)
"""One row per server-sent event, pings too."""

FRAMES: Mapping[str, tuple[Column, ...]] = MappingProxyType(
    {
        "interceptions": INTERCEPTIONS,
        "token_usage": TOKEN_USAGE,
        "prompts": PROMPTS,
        "tool_calls": TOOL_CALLS,
        "thoughts": THOUGHTS,
        "events": EVENTS,
    }
)
"""The columns of every frame by its name."""


def named(frame: str, rows: Iterable[Sequence[Any]]) -> Iterator[Mapping[str, Any]]:
    """Rows of a frame with the names of their cells."""
    names = [column.name for column in FRAMES[frame]]
    return (dict(zip(names, row, strict=True)) for row in rows)
