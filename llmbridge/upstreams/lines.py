"""What a script can say, and when: text, messages, refusals, functions of the request, rules."""

import math
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import get_args

from llmbridge.canon.messages import (
    Ask,
    AssistantMessage,
    Block,
    Context,
    Message,
    StopReason,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Usage,
    UserMessage,
)
from llmbridge.errors import ConfigurationError
from llmbridge.exchange.failure import Failure
from llmbridge.exchange.options import check_kind

Said = str | AssistantMessage | Failure
"""What one answer is made of."""

Line = Said | Callable[[Ask], Said | Awaitable[Said]]
"""An answer, or a function of the request that gives one; it may be async."""

Condition = str | re.Pattern[str] | Callable[[Ask], bool]
"""Text that the user's words hold, a pattern found in them, or any function of the request."""


@dataclass(frozen=True, slots=True)
class Cue:
    """A line, how often it is said, and on what condition (None: when its turn comes)."""

    line: Line
    times: float = 1
    when: "When | None" = None


@dataclass(frozen=True, slots=True)
class When:
    """What must hold of a request, all of it; `say` tells what is answered then."""

    conditions: tuple[Condition, ...] = ()
    tool_result: str | None = None
    model: str | None = None

    def say(self, line: Line | Cue) -> Cue:
        """The rule: this line, every time, or as often as `repeat(line, times=...)` says."""
        cue = line if isinstance(line, Cue) else Cue(line, math.inf)
        return replace(_checked(cue), when=self)

    def holds(self, ask: Ask) -> bool:
        """True when the request is of this kind."""
        turn = _turn(ask.context)
        if self.model is not None and not fnmatchcase(ask.model, self.model):
            return False
        if self.tool_result is not None and not _answered(self.tool_result, turn, ask.context):
            return False
        heard = _words(turn)
        return all(_meets(condition, heard, ask) for condition in self.conditions)


def reply(
    *blocks: str | Block | AssistantMessage,
    stop_reason: StopReason | None = None,
    usage: Usage | None = None,
) -> AssistantMessage:
    """A reply of these blocks, in this order: strings are text, `calls(...)` gives its tool call.

    Raises:
        ConfigurationError: something else is among them, or the reason or usage is none.
    """
    check_kind("usage", usage, Usage)
    if stop_reason is not None and stop_reason not in get_args(StopReason):
        raise ConfigurationError(
            f"stop_reason={stop_reason!r}: give one of {', '.join(get_args(StopReason))}"
        )
    content = tuple(part for block in blocks for part in _parts(block))
    wants_tools = any(isinstance(part, ToolCall) for part in content)
    reason = stop_reason or ("tool_use" if wants_tools else "stop")
    return AssistantMessage(content, stop_reason=reason, usage=usage)


def calls(name: str, /, **arguments: object) -> AssistantMessage:
    """A call of one tool, as a reply; `reply(...)` joins several."""
    return reply(ToolCall("", name, arguments))


def fail(status: int, *, message: str = "", retry_after: float | None = None) -> Failure:
    """A refusal in the provider's own shape; `retry_after` in seconds.

    Raises:
        ConfigurationError: the status is none of an error, or the time is negative.
    """
    return Failure(status, message, retry_after)


def repeat(line: Line, *, times: float = math.inf) -> Cue:
    """This line so many times; for ever, unless told.

    Raises:
        ConfigurationError: `times` is less than one.
    """
    if times < 1:
        raise ConfigurationError(f"repeat(times={times!r}): give 1 or more")
    return _checked(Cue(line, times))


def when(*conditions: Condition, tool_result: str | None = None, model: str | None = None) -> When:
    """A condition on the request: `when("weather").say(...)` answers whenever it holds, before the lines in order.

    Strings and patterns are looked for in what the user said since the last answer. `tool_result` names a tool whose
    result has come since then, `model` is a glob such as `claude-*`.

    Raises:
        ConfigurationError: there is nothing that must hold.
    """
    if not conditions and tool_result is None and model is None:
        raise ConfigurationError("when() says nothing: give text, a pattern, a function, ...")
    return When(conditions, tool_result, model)


def cue_of(line: Line | Cue | When) -> Cue:
    """One of a script's lines as a cue.

    Raises:
        ConfigurationError: it is no line.
    """
    if isinstance(line, When):
        raise ConfigurationError(f"{line!r} is half a rule: go on with .say(...)")
    return _checked(line if isinstance(line, Cue) else Cue(line))


def _checked(cue: Cue) -> Cue:
    if not isinstance(cue.line, str | AssistantMessage | Failure) and not callable(cue.line):
        raise ConfigurationError(
            f"{cue.line!r} is no line: give text, reply(...), calls(...), fail(...) or a function of the request"
        )
    return cue


def _parts(block: object) -> Sequence[Block]:
    match block:
        case AssistantMessage():
            return block.content
        case str():
            return (Text(block),)
        case Text() | Thinking() | ToolCall():
            return (block,)
        case _:
            raise ConfigurationError(
                f"{block!r} is no part of a reply: give text, Thinking(...), ToolCall(...) or calls(...)"
            )


def _turn(context: Context) -> Sequence[Message]:
    """What came since the last answer."""
    answers = (
        place
        for place, each in enumerate(context.messages, 1)
        if isinstance(each, AssistantMessage)
    )
    return context.messages[max(answers, default=0) :]


def _words(turn: Sequence[Message]) -> str:
    users = (message for message in turn if isinstance(message, UserMessage))
    return "\n".join(part.text for said in users for part in said.content if isinstance(part, Text))


def _answered(tool: str, turn: Sequence[Message], context: Context) -> bool:
    names = {
        call.id: call.name
        for message in context.messages
        if isinstance(message, AssistantMessage)
        for call in message.tool_calls
    }
    results = (message for message in turn if isinstance(message, ToolResult))
    return any((each.name or names.get(each.tool_call_id)) == tool for each in results)


def _meets(condition: Condition, heard: str, ask: Ask) -> bool:
    match condition:
        case str():
            return condition in heard
        case re.Pattern():
            return condition.search(heard) is not None
        case _:
            return condition(ask)
