"""Running the bridge's own tools: side by side, within limits, past the gate, each on record however it ends."""

import inspect
import logging
import re
from asyncio import CancelledError, current_task
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from time import monotonic as system_monotonic
from traceback import format_exception_only
from typing import Any

import anyio

from llmbridge.canon.messages import Image, Text, ToolCall, ToolResult, ToolSpec
from llmbridge.canon.strict_json import loads_strict
from llmbridge.errors import ConfigurationError
from llmbridge.exchange.call import Call
from llmbridge.exchange.recorder import Clock, utc_now
from llmbridge.exchange.toolbox import Gate, Toolbox, ToolLimits, ToolRun
from llmbridge.wire.loose_json import is_object

_logger = logging.getLogger("llmbridge")

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")


class ToolRunner:
    """Runs calls; `gate` may refuse one, with words for the model."""

    def __init__(
        self,
        toolboxes: Sequence[Toolbox],
        gate: Gate | None,
        limits: ToolLimits,
        clock: Clock = utc_now,
        monotonic: Callable[[], float] = system_monotonic,
    ) -> None:
        self._toolboxes = tuple(toolboxes)
        self._gate = gate
        self._limits = limits
        self._clock = clock
        self._monotonic = monotonic

    def check(self) -> None:
        """See that the gate is a function, and that each tool has a name of its own that some provider takes.

        Raises:
            ConfigurationError: it is not so.
        """
        if self._gate is not None and not callable(self._gate):
            raise ConfigurationError(f"tool_gate={self._gate!r}: give a function, or None")
        names = Counter(spec.name for box in self._toolboxes for spec in box.specs())
        if odd := [name for name in names if not _NAME.fullmatch(name)]:
            raise ConfigurationError(
                f"no model can call a tool {odd[0]!r}: take letters of ASCII, digits, '_' and '-', 64 at most for OpenAI"
            )
        if twice := next((name for name, count in names.items() if count > 1), None):
            raise ConfigurationError(f"two tools are called {twice!r}: rename one")

    def offered(self) -> tuple[list[ToolSpec], dict[str, Toolbox]]:
        """All that is on offer now, and whose each tool is; a server cannot take the name of another's tool."""
        owners: dict[str, Toolbox] = {}
        specs: list[ToolSpec] = []
        for box in self._toolboxes:
            for spec in box.specs():
                if spec.name not in owners:
                    owners[spec.name] = box
                    specs.append(spec)
        return specs, owners

    async def run(
        self, asked: Call, calls: Sequence[ToolCall], owners: dict[str, Toolbox]
    ) -> list[ToolResult]:
        """The results of these calls, in their order; they run side by side."""
        results: dict[int, ToolResult] = {}

        async def one(place: int, call: ToolCall) -> None:
            results[place] = await self._on_record(asked, call, owners[call.name])

        async with anyio.create_task_group() as tasks:
            for place, call in enumerate(calls):
                tasks.start_soon(one, place, call)
        return [results[place] for place in range(len(calls))]

    def skip(
        self, asked: Call, calls: Sequence[ToolCall], owners: dict[str, Toolbox], why: str
    ) -> None:
        """Put on record that these were not run."""
        now = self._clock()
        for call in calls:
            server = getattr(owners[call.name], "name", None)
            run = ToolRun(call.id, call.name, asked.round, server, now, None, error=why)
            asked.tool_runs.append(run)

    async def _on_record(self, asked: Call, call: ToolCall, box: Toolbox) -> ToolResult:
        started_at, start = self._clock(), self._monotonic()
        told, failed = "the call ended while it ran", True
        try:
            result = self._capped(call, await self._run(call, box))
            told, failed = _words(result), result.is_error
        finally:
            run = ToolRun(
                call.id,
                call.name,
                asked.round,
                getattr(box, "name", None),
                started_at,
                self._monotonic() - start,
                None if failed else told,
                told if failed else None,
            )
            asked.tool_runs.append(run)
        return result

    async def _run(self, call: ToolCall, box: Toolbox) -> ToolResult:
        if not is_object(_arguments(call)):
            return _failed(call, "the arguments are not a JSON object")
        seconds = self._limits.tool_timeout_s
        with anyio.move_on_after(seconds):
            try:
                return await self._refused(call) or _fitting(await box.call(call))
            except (Exception, SystemExit, CancelledError) as error:
                if _is_cancelled(error):
                    raise
                # The border: a user's function, or somebody else's server.
                _logger.exception("the tool %r failed", call.name)
                return _failed(call, f"the tool failed with {_said(error)}")
        return _failed(call, f"the tool {call.name!r} did not answer within {seconds:g} s")

    async def _refused(self, call: ToolCall) -> ToolResult | None:
        try:
            said = self._gate(call) if self._gate is not None else None
            why = await said if inspect.isawaitable(said) else said
        except Exception as error:
            # The border: a user's function. What it does not let pass is not run.
            _logger.exception("the gate failed for the tool %r, which was not run", call.name)
            return _failed(call, f"the gate failed with {_said(error)}")
        return _refusal(call, why)

    def _capped(self, call: ToolCall, result: ToolResult) -> ToolResult:
        return replace(result, tool_call_id=call.id, content=tuple(self._cut(result)))

    def _cut(self, result: ToolResult) -> Iterator[Text | Image]:
        left = self._limits.result_chars
        for part in result.content:
            if not isinstance(part, Text):
                yield part
            elif len(part.text) <= left:
                left -= len(part.text)
                yield part
            else:
                cut = len(part.text) - left
                yield Text(f"{part.text[:left]}\n[{cut:,} more characters were left out]")
                left = 0


def _is_cancelled(error: BaseException) -> bool:
    """True where this task is to end; what a tool has cancelled for itself is a failure like any other."""
    task = current_task()
    return isinstance(error, CancelledError) and task is not None and task.cancelling() > 0


def _said(error: BaseException) -> str:
    """The error's name and words; those of an exception that cannot tell them are left out."""
    return "".join(format_exception_only(error)).strip()


def _fitting(result: object) -> ToolResult:
    """What a toolbox gave, if it is what it was to give."""
    if isinstance(result, ToolResult) and all(map(_is_part, result.content)):
        return result
    raise TypeError(f"it gave {result!r}, and was to give a ToolResult with Text and Image in it")


def _is_part(part: object) -> bool:
    return isinstance(part, Text | Image)


def _words(result: ToolResult) -> str:
    return "".join(part.text for part in result.content if isinstance(part, Text))


def _arguments(call: ToolCall) -> Any:
    """The arguments, read strictly: what was cut short is not guessed."""
    try:
        return loads_strict(call.text.encode()) if call.text.strip() else {}
    except ValueError:
        return None


def _failed(call: ToolCall, why: str) -> ToolResult:
    return ToolResult(call.id, (Text(f"Error: {why}"),), is_error=True)


def _refusal(call: ToolCall, why: object) -> ToolResult | None:
    """What a gate said; anything but None and text is a mistake in it."""
    if why is None:
        return None
    if isinstance(why, str):
        return _failed(call, f"the call was refused: {why}")
    told = f"the gate gave {why!r}, and was to give None, or text to refuse"
    _logger.error("%s: the tool %r was not run", told, call.name)
    return _failed(call, f"{told}, so this was not run")
