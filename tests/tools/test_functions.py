"""llmbridge.tools.functions."""

import functools
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any

import pytest

from llmbridge import Bridge, Script
from llmbridge.canon.messages import Text, ToolCall, ToolResult, ToolSpec
from llmbridge.errors import ConfigurationError
from llmbridge.tools.functions import Functions


def weather(city: str, days: int = 1) -> str:
    """Tell the weather."""
    return f"{city}: sun for {days}"


def test_a_function_is_told_by_its_hints_and_docstring():
    specs = Functions([weather]).specs()

    properties = {"city": {"type": "string"}, "days": {"type": "integer", "default": 1}}
    schema = {"type": "object", "properties": properties, "required": ["city"]}
    assert specs == (ToolSpec("weather", "Tell the weather.", schema),)


async def test_a_sync_function_runs_in_another_thread():
    async def ran() -> ToolResult:
        return await Functions([where]).call(ToolCall("a", "where"))

    def where() -> bool:
        return threading.current_thread() is threading.main_thread()

    assert await ran() == ToolResult("a", (Text("false"),))


async def test_an_async_function_is_awaited():
    async def double(number: int) -> dict[str, int]:
        return {"double": 2 * number}

    result = await Functions([double]).call(ToolCall("a", "double", {"number": 4}))

    assert result == ToolResult("a", (Text('{"double":8}'),))


async def test_an_async_function_in_a_decorator_is_awaited_too():
    async def city() -> str:
        return "Oslo"

    @functools.wraps(city)
    def decorated() -> Awaitable[str]:
        return city()

    result = await Functions([decorated]).call(ToolCall("a", "city"))

    assert result == ToolResult("a", (Text("Oslo"),))


async def test_arguments_that_do_not_fit_are_told_to_the_model():
    result = await Functions([weather]).call(ToolCall("a", "weather", {"city": 3}))

    said = "Error: the arguments do not fit: Expected `str`, got `int` - at `$.city`"
    assert result == ToolResult("a", (Text(said),), is_error=True)


def test_a_function_that_yields_is_refused():
    def lines() -> Iterator[str]:
        yield "one"

    async def pages() -> AsyncIterator[str]:
        yield "one"

    for function in (lines, pages):
        with pytest.raises(ConfigurationError, match="yields: return a list, or one text"):
            Functions([function])


def test_a_function_that_takes_any_number_of_arguments_is_refused():
    def many(*names: str) -> None: ...

    with pytest.raises(ConfigurationError, match="models name each argument"):
        Functions([many])


def named(name: str) -> Callable[[], str]:
    def tool() -> str:
        return "done"

    tool.__name__ = name
    return tool


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"tools": weather}, "tools is of type function: give a list"),
        ({"tools": "weather"}, "tools is of type str: give a list"),
        ({"tools": ["weather"]}, "'weather' is no tool: give a function with a name in ASCII"),
        ({"tools": [named("größe")]}, "is no tool: give a function with a name in ASCII"),
        ({"tools": [named("x" * 129)]}, f"no model can call a tool '{'x' * 129}'"),
        ({"tools": [weather], "tool_gate": True}, "tool_gate=True: give a function, or None"),
        ({"tools": [weather], "tool_limits": {"rounds": 3}}, "tool_limits={'rounds': 3}: give "),
    ],
)
def test_what_is_no_tool_gate_or_limit_is_refused_by_name(options: Any, told: str):
    with pytest.raises(ConfigurationError, match=told):
        Bridge(Script("Hello."), **options)


@pytest.mark.parametrize("name", ["", "a b", "a.b", "\ud800", "größe"])
def test_a_toolbox_with_a_name_that_no_provider_takes_is_refused(name: str):
    class Odd:
        def specs(self) -> Sequence[ToolSpec]:
            return [ToolSpec(name)]

        async def call(self, call: ToolCall) -> ToolResult:
            raise AssertionError("never called")

    with pytest.raises(ConfigurationError, match=re.escape(f"can call a tool {name!r}: take ")):
        Bridge(Script("Hello."), tools=[Odd()])


def test_two_functions_of_one_name_are_refused():
    with pytest.raises(ConfigurationError, match="two tools are called 'weather'"):
        Functions([weather, weather])
