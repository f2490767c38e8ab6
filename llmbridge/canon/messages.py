"""What a conversation is made of: frozen values, the same for every provider.

A reply is an `AssistantMessage`: blocks of text, thinking and tool calls, the reason it stopped, and its usage.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from llmbridge.canon.markup import (
    LIMIT_CHARS,
    LIMIT_ROWS,
    Html,
    facts,
    labelled,
    panel,
    preformatted,
)

JsonObject = Mapping[str, Any]
"""A JSON object that is passed on, not understood."""

StopReason = Literal["stop", "length", "tool_use", "content_filter", "error", "aborted"]


@dataclass(frozen=True, slots=True)
class Text:
    """Words for the reader; `refusal` when they say that there will be no answer."""

    text: str = ""
    signature: str | None = None
    refusal: bool = False


@dataclass(frozen=True, slots=True)
class Thinking:
    """Reasoning; `redacted` means only the encrypted `signature` came."""

    text: str = ""
    signature: str | None = None
    redacted: bool = False


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A wish to run a tool; `server` when the provider runs it itself.

    `arguments` is the parsed object (for a `custom` tool its free text); `arguments_text` is what was sent, which
    may be empty or cut short.
    """

    id: str
    name: str
    arguments: Any = field(default_factory=dict[str, Any])
    arguments_text: str = field(default="", compare=False)
    server: bool = False
    custom: bool = False

    @property
    def text(self) -> str:
        """The arguments as they go over the wire."""
        if self.arguments_text or not self.arguments:
            return self.arguments_text
        if self.custom:
            return str(self.arguments)
        return json.dumps(self.arguments, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Image:
    """A picture: base64 `data`, or a `url` where the client sent one."""

    mime_type: str = ""
    data: str = field(default="", repr=False)
    url: str = ""


Block = Text | Thinking | ToolCall
"""What an assistant says."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one reply; `raw` holds the provider's own numbers.

    `input_tokens` are the uncached ones, `output_tokens` include `reasoning_tokens`. None: the provider did not say.
    """

    input_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    total_tokens: int | None = None
    raw: JsonObject = field(default_factory=dict[str, Any], compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class AssistantMessage:
    """A reply, whole or so far.

    `stop` is the provider's own word for `stop_reason`. `error_type` and `error` tell why it broke off.
    """

    content: Sequence[Block] = ()
    model: str | None = None
    response_id: str | None = None
    stop_reason: StopReason | None = None
    stop: str | None = None
    usage: Usage | None = None
    error_type: str | None = None
    error: str | None = None

    @property
    def text(self) -> str:
        """All text blocks, joined; a refusal is not one of them."""
        return "".join(
            block.text for block in self.content if isinstance(block, Text) and not block.refusal
        )

    @property
    def thinking(self) -> str:
        """All thinking blocks, joined."""
        return "".join(block.text for block in self.content if isinstance(block, Thinking))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls, in order."""
        return tuple(block for block in self.content if isinstance(block, ToolCall))

    def _repr_html_(self) -> str:
        return message_html(self)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(message_line(self))


def message_line(message: AssistantMessage) -> str:
    """A reply, whole or so far, as IPython shows it where there is no HTML: one short line."""
    calls, usage = len(message.tool_calls), message.usage
    known = [shortened(message.model or "", 24), message.stop_reason or "so far"]
    if message.error_type or message.error:
        known.append(f"error {shortened(message.error_type or message.error or '', 20)}")
    if calls:
        known.append(f"{calls} tool call{'s' if calls > 1 else ''}")
    if usage is not None and usage.output_tokens is not None:
        known.append(f"{usage.output_tokens:,} tokens")
    told = f"AssistantMessage({', '.join(known)}: "
    return f"{told}{shortened(message.text or message.thinking, max(10, 114 - len(told)))})"


def shortened(text: str, limit_chars: int) -> str:
    """The beginning of a text between quotes, in one line whatever is in it."""
    told = repr(text[:limit_chars])
    more = "…" if len(text) > limit_chars or len(told) > limit_chars + 2 else ""
    return told if not more else f"{told[: limit_chars + 1]}{more}{told[-1]}"


def message_html(message: AssistantMessage, limit_chars: int = LIMIT_CHARS) -> Html:
    """A reply, whole or so far, as a notebook shows it; texts are cut where there are more than these characters."""
    first = message.content[:LIMIT_ROWS]
    each = limit_chars // max(len(first), 1)
    blocks = [_block_html(block, each) for block in first]
    more = len(message.content) - len(blocks)
    if more > 0:
        blocks.append(labelled("left out", f"{more:,} more blocks"))
    if message.error_type is not None or message.error is not None:
        blocks.append(labelled(f"error {message.error_type or ''}", message.error or ""))
    return panel(
        f"Assistant {message.model or ''}",
        *blocks,
        facts(
            stop_reason=message.stop_reason,
            input_tokens=message.usage and message.usage.input_tokens,
            cache_read_tokens=message.usage and message.usage.cache_read_tokens,
            output_tokens=message.usage and message.usage.output_tokens,
        ),
    )


def _block_html(block: Block, limit_chars: int) -> Html:
    match block:
        case Text(refusal=False):
            return preformatted(block.text, limit_chars)
        case Text():
            return labelled("refusal", block.text, limit_chars)
        case Thinking():
            return labelled(
                "thinking", "(encrypted)" if block.redacted else block.text, limit_chars
            )
        case ToolCall():
            return labelled(f"tool call {block.name}", _readable(block), limit_chars)


def _readable(call: ToolCall) -> str:
    """The arguments over several lines; those that cannot be parsed yet as they were sent."""
    if call.custom or not call.arguments:
        return call.text
    return json.dumps(call.arguments, ensure_ascii=False, indent=2, default=str)


@dataclass(frozen=True, slots=True)
class UserMessage:
    """What the user says."""

    content: tuple[Text | Image, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool answered."""

    tool_call_id: str
    content: tuple[Text | Image, ...] = ()
    is_error: bool = False
    name: str = ""


Message = UserMessage | AssistantMessage | ToolResult


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool on offer; `parameters` is a JSON Schema."""

    name: str
    description: str = ""
    parameters: JsonObject = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Context:
    """What a model is asked with."""

    system: str = ""
    messages: tuple[Message, ...] = ()
    tools: tuple[ToolSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class Model:
    """Who answers: a provider's name, the model's id, and the dialect (`api`; empty: the provider's first)."""

    provider: str
    id: str
    api: str = ""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request as a dialect reads it; `options` are the settings beside model and context, in the client's words.

    `provider` is who is asked, where that is known.
    """

    model: str = ""
    context: Context = field(default_factory=Context)
    streaming: bool = False
    options: JsonObject = field(default_factory=dict[str, Any])
    provider: str = ""
