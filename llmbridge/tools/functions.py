"""Python functions as tools: name, docstring and type hints tell the model what they take."""

import inspect
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any, get_type_hints

import anyio.to_thread
import msgspec

from llmbridge.canon.messages import Text, ToolCall, ToolResult, ToolSpec
from llmbridge.errors import ConfigurationError
from llmbridge.exchange.options import check_list
from llmbridge.exchange.toolbox import Toolbox

Function = Callable[..., Any]

_TAKEN = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True, slots=True)
class _Tool:
    function: Function
    arguments: type[msgspec.Struct]
    spec: ToolSpec


class Functions:
    """A toolbox of functions; sync ones run in a thread of their own.

    Raises:
        ConfigurationError: a function that cannot be told to a model.
    """

    def __init__(self, functions: Iterable[Function]) -> None:
        self._tools: dict[str, _Tool] = {}
        for function in functions:
            tool = _tool(function)
            if tool.spec.name in self._tools:
                raise ConfigurationError(f"two tools are called {tool.spec.name!r}: rename one")
            self._tools[tool.spec.name] = tool

    def __repr__(self) -> str:
        return f"Functions({', '.join(self._tools)})"

    def specs(self) -> Sequence[ToolSpec]:
        """One for each function."""
        return tuple(tool.spec for tool in self._tools.values())

    async def call(self, call: ToolCall) -> ToolResult:
        """Run the function; arguments that do not fit and what it raises are told to the model."""
        tool = self._tools[call.name]
        try:
            given = msgspec.convert(call.arguments, tool.arguments)
        except msgspec.ValidationError as error:
            return ToolResult(call.id, (Text(f"Error: the arguments do not fit: {error}"),), True)
        names = tool.arguments.__struct_fields__
        run = partial(tool.function, **{name: getattr(given, name) for name in names})
        if inspect.iscoroutinefunction(tool.function):
            value = await run()
        else:
            value = await anyio.to_thread.run_sync(run, abandon_on_cancel=True)
        if inspect.isawaitable(value):
            # A decorator hid that the function is async.
            value = await value
        return ToolResult(call.id, (Text(_text(value)),))


def toolboxes(tools: Iterable[Function | Toolbox]) -> list[Toolbox]:
    """Toolboxes as they are, the functions among the tools in one of their own.

    Raises:
        ConfigurationError: they are no list, or a function cannot be told to a model.
    """
    check_list("tools", tools)
    tools = list(tools)
    boxes = [tool for tool in tools if isinstance(tool, Toolbox)]
    functions = [tool for tool in tools if not isinstance(tool, Toolbox)]
    return [*boxes, Functions(functions)] if functions else boxes


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value, enc_hook=str).decode()


def _tool(function: Function) -> _Tool:
    name = getattr(function, "__name__", "")
    if not isinstance(name, str) or not (name.isidentifier() and name.isascii()):
        raise ConfigurationError(f"{function!r} is no tool: give a function with a name in ASCII")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigurationError(f"the tool {name!r} yields: return a list, or one text")
    try:
        hints = get_type_hints(function, include_extras=True)
        fields = [
            _field(parameter, hints)
            for parameter in inspect.signature(function).parameters.values()
        ]
        arguments = msgspec.defstruct(name, fields, kw_only=True)
        (_, parts) = msgspec.json.schema_components([arguments], ref_template="#/$defs/{name}")
    except (TypeError, NameError, ValueError) as error:
        raise ConfigurationError(f"the tool {name!r} cannot be described: {error}") from error
    schema = dict(parts.pop(name))
    schema.pop("title", None)
    if parts:
        schema["$defs"] = parts
    return _Tool(function, arguments, ToolSpec(name, inspect.getdoc(function) or "", schema))


def _field(parameter: inspect.Parameter, hints: dict[str, Any]) -> Any:
    if parameter.kind not in _TAKEN:
        raise TypeError(f"it takes {str(parameter)!r}, and models name each argument")
    hint = hints.get(parameter.name, Any)
    if parameter.default is parameter.empty:
        return (parameter.name, hint)
    default = parameter.default
    if isinstance(default, list | dict | set):
        return (parameter.name, hint, msgspec.field(default_factory=partial(copy, default)))
    return (parameter.name, hint, default)
