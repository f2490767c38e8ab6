"""Frozen dataclasses that are made as fast as those that can be changed.

The standard library's set each field by a call of `object.__setattr__`; of an interception there are twenty, and two for
each request. Here a new object is one of a twin class while it is filled, which lets its fields be set.
"""

import sys
from dataclasses import MISSING, fields
from inspect import Parameter, signature
from typing import Any, TypeVar, get_origin

T = TypeVar("T")


def quick(frozen: type[T]) -> type[T]:
    """Goes above `@dataclass(frozen=True)` of a class of which very many are made; all else stays as it is.

    So does the class where an object cannot change its own: another interpreter, or a layout of its own.
    """
    made: Any = frozen
    assert all(each.init for each in fields(made)), "nobody would fill these"
    assert not hasattr(frozen, "__post_init__"), "nobody would call it"
    slots = {name: value for name, value in vars(frozen).items() if name == "__slots__"}
    names: dict[str, Any] = {
        "__name__": frozen.__module__,
        "frozen": frozen,
        "twin": type(frozen.__name__, frozen.__bases__, slots),
        "turn": vars(object)["__class__"].__set__,
        "standard": made.__init__,
    }
    if not _turns(frozen, names["twin"]):
        return frozen
    parameters, given, filled = list[str](), list[str](), list[str]()
    factories = {each.name: each.default_factory for each in fields(made)}
    for name, parameter in [*signature(made.__init__).parameters.items()][1:]:
        default, factory = parameter.default, factories[name]
        only = parameter.kind is Parameter.KEYWORD_ONLY
        if only and "*" not in parameters:
            parameters.append("*")
        # `list[str]()` takes ten times as long as `list()`.
        names |= {f"{name}_default": default, f"{name}_new": get_origin(factory) or factory}
        parameters.append(name if default is Parameter.empty else f"{name}={name}_default")
        given.append(f"{name}={name}")
        new = "" if factory is MISSING else f"{name}_new() if {name} is {name}_default else "
        filled.append(f"self.{name} = {new}{name}")
    lines = [
        f"def __init__(self, {', '.join(parameters)}):",
        f"    if self.__class__ is not frozen: return standard(self, {', '.join(given)})",
        "    turn(self, twin)",
        *(f"    {line}" for line in filled),
        "    self.__class__ = frozen",
    ]
    exec("\n".join(lines), names)  # Names of fields alone, as in the standard library.
    made.__init__ = names["__init__"]
    made.__init__.__annotations__ = names["standard"].__annotations__
    made.__init__.__qualname__ = names["standard"].__qualname__
    return frozen


def _turns(frozen: type, twin: type) -> bool:
    """True where objects of one class may become those of the other, and that is fast."""
    # Without the interpreter's lock all threads have to stop for it.
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return False
    try:
        vars(object)["__class__"].__set__(object.__new__(frozen), twin)
    except TypeError:
        return False
    return True
