"""YAML and JSON from files that anybody may have written: data only, within limits, or an error that says where."""

import json
import re
from collections.abc import Callable, Hashable, Iterable
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeGuard

import yaml

from llmbridge.errors import CassetteError

Construct = Callable[[Any, Any], Any]

if TYPE_CHECKING:
    _Base = yaml.SafeLoader
else:
    _Base = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader

LIMIT_BYTES = 64 * 1024 * 1024
"""The largest file, and the most text that aliases may make of one."""

MAX_DEPTH = 100
_MAX_NODES = 4_000_000


def safe_load(data: bytes, name: str) -> Any:
    """What the bytes say, as plain Python values.

    Raises:
        CassetteError: not YAML or JSON, too large, too deep, or with tags that ask for more than data.
    """
    if len(data) > LIMIT_BYTES:
        raise CassetteError(
            f"{name} is larger than {LIMIT_BYTES >> 20} MiB: split it, a cassette is read whole"
        )
    data = data.removeprefix(b"\xef\xbb\xbf")
    if not data.strip():
        raise CassetteError(f"{name} is empty: delete it, or record it again")
    if data.startswith(b"SQLite format 3\0"):
        raise CassetteError(f"{name} is an SQLite database: name it by a URL, 'sqlite:///{name}'")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise CassetteError(f"{name} is UTF-16: save it as UTF-8")
    if data.lstrip()[:1] in (b"{", b"["):
        return _json(data, name)
    return _yaml(data, name)


def is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    """True for a mapping as files hold them."""
    return isinstance(value, dict)


def is_array(value: Any) -> TypeGuard[list[Any]]:
    """True for a list as files hold them."""
    return isinstance(value, list)


def _json(data: bytes, name: str) -> Any:
    try:
        tree = json.loads(data, object_pairs_hook=_once_each)
    except RecursionError:
        raise CassetteError(f"{name} is nested too deeply") from None
    except ValueError as error:
        raise CassetteError(f"{name} is not JSON: {error}") from error
    _check_size(tree, name)
    return tree


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        key = pairs[_second([key for key, _ in pairs])][0]
        raise ValueError(f"{key[:100]!r} is there twice, give it once")
    return found


def _second(keys: Iterable[Hashable]) -> int:
    """Where the first stands that was there before."""
    seen = set[Hashable]()
    for place, key in enumerate(keys):
        if key in seen:
            return place
        seen.add(key)
    raise AssertionError("one of them is there twice")


_ANCHOR = re.compile(rb"&(?:(?<=[\s\[{,:?\x85\xa8\xa9]&)|(?<!.&))[^\s,\[\]{}]", re.DOTALL)
"""Where an anchor may be, hence aliases; bodies hold such things too."""


def _yaml(data: bytes, name: str) -> Any:
    try:
        tree = yaml.load(data, _Loader)
    except yaml.constructor.ConstructorError as error:
        raise CassetteError(f"{name} is not plain data: {_said(error, data)}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise CassetteError(f"{name} is not YAML: {_said(error, data)}") from error
    if _ANCHOR.search(data):
        _check_size(tree, name)
    return tree


def _said(error: Exception, data: bytes) -> str:
    """The problem and its line, without the excerpt: it may hold a secret."""
    match error:
        case yaml.reader.ReaderError():
            problem = str(error).partition("\n")[0]
            line = data.count(b"\n", 0, error.position) + 1
            return f"{problem}, in line {line}"
        case yaml.MarkedYAMLError():
            mark = error.problem_mark or error.context_mark
            where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
            return f"{error.problem or error.context}{where}"
        case _:
            return str(error).partition("\n")[0]


class _Loader(_Base):
    """Safe YAML without what cassettes have no use for: merge keys and dates. Counts how deep it is."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._depth = 0

    def descend_resolver(self, current_node: Any, current_index: Any) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            _refuse(current_node, f"nested deeper than {MAX_DEPTH} levels")

    def ascend_resolver(self) -> None:
        self._depth -= 1

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep)
        if len(mapping) != len(node.value):
            # Of two recordings in one place the one would be lost without a word.
            values: list[Any] = [_value(self, key) for key, _ in node.value]
            key = node.value[_second(values)][0]
            _refuse(key, f"{str(key.value)[:100]!r} is there twice")
        return mapping


def _value(loader: Any, node: Any) -> Any:
    return loader.construct_object(node, deep=True)


def _refuse(node: Any, problem: str) -> NoReturn:
    raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _checked(construct: Construct) -> Construct:
    """For what trusts that a tag fits its value."""

    def constructed(loader: Any, node: Any) -> Any:
        try:
            return construct(loader, node)
        except (ValueError, LookupError, AttributeError):
            _refuse(node, f"a value is no {node.tag.rpartition(':')[2]}")

    return constructed


for _tag in ("bool", "int", "float", "timestamp"):
    _tag = f"tag:yaml.org,2002:{_tag}"
    _Loader.add_constructor(_tag, _checked(_Base.yaml_constructors[_tag]))


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag.rpartition(":")[2] in ("bool", "float", "int", "null")
    ]
    for first, resolvers in _Base.yaml_implicit_resolvers.items()
}


def _text(loader: yaml.SafeLoader, node: Any) -> Any:
    return loader.construct_scalar(node)


def _binary(loader: yaml.SafeLoader, node: Any) -> Any:
    return loader.construct_yaml_binary(node)


def _tuple(loader: yaml.SafeLoader, node: Any) -> Any:
    return loader.construct_sequence(node, deep=True)


def _file(loader: yaml.SafeLoader, node: Any) -> Any:
    state = loader.construct_mapping(node, deep=True).get("state")
    return state[0] if is_array(state) and state else b""


def _iterator(loader: yaml.SafeLoader, node: Any) -> Any:
    args = loader.construct_mapping(node, deep=True).get("args")
    return args[0] if is_array(args) and args else b""


# Old vcrpy wrote request bodies so; only what they hold is read, nothing of Python is made.
for _tag, _read in {
    "str": _text,
    "unicode": _text,
    "tuple": _tuple,
    "object/new:_io.BytesIO": _file,
    "object/apply:builtins.iter": _iterator,
}.items():
    _Loader.add_constructor(f"tag:yaml.org,2002:python/{_tag}", _read)


def _ruby_text(loader: yaml.SafeLoader, _suffix: str, node: Any) -> Any:
    """A string of some class, alone or with that class' own variables beside it."""
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True).get("str", "")
    return loader.construct_scalar(node)


def _ruby_hash(loader: yaml.SafeLoader, _suffix: str, node: Any) -> Any:
    return loader.construct_mapping(node, deep=True)


_Loader.yaml_multi_constructors = {
    **_Base.yaml_multi_constructors,
    "!ruby/string": _ruby_text,
    "!ruby/sym": _ruby_text,
    "!str:": _ruby_text,
    "!ruby/hash": _ruby_hash,
}
# Ruby's name for !!binary.
_Loader.add_constructor("!binary", _binary)


def _check_size(tree: Any, name: str) -> None:
    """Aliases share what they name: count what they would make if written out."""
    try:
        size = _measured(tree, {})
    except RecursionError:
        size = _ENDLESS
    if size.nodes > _MAX_NODES or size.text > LIMIT_BYTES or size.depth > MAX_DEPTH:
        raise CassetteError(
            f"{name} is nested deeper than {MAX_DEPTH} levels, or grows beyond all limits by its aliases"
        )


class _Size(NamedTuple):
    nodes: int
    text: int = 0
    depth: int = 0


_ENDLESS = _Size(_MAX_NODES + 1)


def _measured(value: Any, seen: dict[int, _Size]) -> _Size:
    if isinstance(value, str | bytes):
        return _Size(1, len(value))
    children = _children(value)
    if children is None:
        return _Size(1)
    if id(value) not in seen:
        # Until it is known: whatever holds itself has no end.
        seen[id(value)] = _ENDLESS
        sizes = [_measured(child, seen) for child in children]
        seen[id(value)] = _Size(
            1 + sum(size.nodes for size in sizes),
            sum(size.text for size in sizes),
            1 + max((size.depth for size in sizes), default=0),
        )
    return seen[id(value)]


def _children(value: Any) -> Iterable[Any] | None:
    if is_object(value):
        return chain(value, value.values())
    # Not only a list: YAML has sets, and pairs that become tuples.
    return value if _is_group(value) else None


def _is_group(value: Any) -> TypeGuard[Iterable[Any]]:
    return isinstance(value, list | set | tuple)
