"""llmbridge.tools.functions."""

import functools
import threading
from collections.abc import Awaitable

import pytest

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


def test_a_function_that_takes_any_number_of_arguments_is_refused():
    def many(*names: str) -> None: ...

    with pytest.raises(ConfigurationError, match="models name each argument"):
        Functions([many])


def test_two_functions_of_one_name_are_refused():
    with pytest.raises(ConfigurationError, match="two tools are called 'weather'"):
        Functions([weather, weather])
