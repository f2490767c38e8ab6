"""The tables in `docs/` that the code has already: `python -m tests.reference` writes them."""

import inspect
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

from typer.main import get_command

from llmbridge import errors, frames
from llmbridge.canon import events
from llmbridge.cli import app
from llmbridge.exchange.call import Caller, Headers, Request
from llmbridge.exchange.canonical import RULES
from llmbridge.exchange.columns import FRAMES
from llmbridge.exchange.routing import Router
from llmbridge.providers import DIALECTS, PROVIDERS, Provider
from llmbridge.wire.opaque import Opaque
from tests.api import api_tables
from tests.compatibility import SYSTEMS, held

DOCS = Path(__file__).resolve().parents[1] / "docs"


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines
    )


def code(*words: str) -> str:
    """Words as code, or a dash where there are none."""
    return ", ".join(f"`{word}`" for word in words if word) or "-"


def said(thing: object) -> str:
    """The docstring, as paragraphs without line breaks."""
    paragraphs = (inspect.getdoc(thing) or "").split("\n\n")
    return "\n\n".join(" ".join(text.split()) for text in paragraphs)


def frame_tables() -> str:
    """One table a frame: column, dtype, meaning."""
    parts: list[str] = []
    for name, columns in FRAMES.items():
        rows = [(code(each.name), code(each.dtype), each.meaning) for each in columns]
        parts += [f"## {name}", said(getattr(frames, name))]
        parts += [table(("column", "dtype", "meaning"), rows)]
    return "\n\n".join(parts)


def filter_table() -> str:
    """The keyword filters of every frame."""
    types = {name: inspect.formatannotation(kind) for name, kind in _annotations(frames.Filters)}
    rows = [(code(name), code(kind.replace("datetime.", ""))) for name, kind in types.items()]
    return f"{said(frames.Filters)}\n\n{table(('filter', 'type'), rows)}"


def _annotations(kind: Any) -> Iterable[tuple[str, Any]]:
    return inspect.get_annotations(kind).items()


def provider_table() -> str:
    """One row a provider."""
    rows = [
        (
            code(row.name),
            row.base_url or "from the environment",
            code(*row.dialects),
            "none needed" if row.keyless else code(*row.key_env),
            code(*row.url_env),
        )
        for row in PROVIDERS
    ]
    return table(("provider", "base URL", "dialects", "key from", "base URL from"), rows)


def provider_fields() -> str:
    """What a row is made of."""
    rows = [(code(field.name), code(_default(field.default))) for field in fields(Provider)]
    return f"{said(Provider)}\n\n{table(('field', 'default'), rows)}"


def _default(value: object) -> str:
    return "" if "MISSING" in repr(value) else repr(value)


def dialect_table() -> str:
    """One row a dialect: where it is spoken, and whether its replies are understood."""
    rows = [
        (
            code(name),
            code(dialect.path),
            "relayed, recorded"
            if isinstance(dialect, Opaque)
            else "relayed, recorded, decoded, encoded",
            code(*_speakers(name)),
        )
        for name, dialect in DIALECTS.items()
    ]
    return table(("dialect", "path", "what happens", "providers"), rows)


def _speakers(dialect: str) -> Iterator[str]:
    return (row.name for row in PROVIDERS if dialect in row.dialects)


def route_table() -> str:
    """Where some requests to the server lead."""
    router = Router()
    rows: list[tuple[str, str, str]] = []
    for method, path, fields_of in _REQUESTS:
        url = f"http://127.0.0.1{path}"
        request = Request(method, url, Headers(fields_of), caller=Caller("server"))
        where = router.destination(request)
        suffix = "".join(f" with `{name}`" for name in fields_of)
        rows.append(
            (code(f"{method} {path}") + suffix, code(where.provider.name), code(where.dialect.name))
        )
    return table(("request", "provider", "dialect"), rows)


_REQUESTS: tuple[tuple[str, str, Mapping[str, str]], ...] = (
    ("POST", "/v1/messages", {}),
    ("POST", "/v1/chat/completions", {}),
    ("POST", "/v1/responses", {}),
    ("GET", "/v1/models", {}),
    ("GET", "/v1/models", {"anthropic-version": "2023-06-01"}),
    ("POST", "/anthropic/v1/messages", {}),
    ("POST", "/openai/v1/responses", {}),
    ("POST", "/openrouter/api/v1/chat/completions", {}),
    ("POST", "/groq/openai/v1/chat/completions", {}),
)


def matching_table() -> str:
    """What a replay does not look at, by dialect."""
    rows = [
        (code(name), code(*sorted(rules.volatile)), code(*_spelled(rules.defaults)))
        for name, rules in RULES.items()
    ]
    return table(("dialect", "does not count", "may as well be left out"), rows)


def _spelled(defaults: Mapping[str, object]) -> Iterator[str]:
    return (f"{name}: {json.dumps(value)}" for name, value in sorted(defaults.items()))


def event_table() -> str:
    """Event types with the delta that each carries."""
    deltas = {kind: kind.__name__ for kind in get_args(events.Delta)}
    rows = [
        (code(*_types(kind)), code(name), code(*(field.name for field in fields(kind))), said(kind))
        for kind, name in deltas.items()
    ]
    return table(("`event.type`", "`event.delta`", "its fields", "meaning"), rows)


def _types(delta: type) -> Iterator[str]:
    single = {"Start": "start", "Finish": "done", "Fail": "error"}
    ending = {"BlockStart": "_start", "BlockDelta": "_delta", "BlockEnd": "_end"}
    for name in get_args(events.EventType):
        if name == single.get(delta.__name__) or name.endswith(
            ending.get(delta.__name__, "no end")
        ):
            yield name


def error_table() -> str:
    """The tree of exceptions."""
    rows = [
        (
            f"`{kind.__name__}`",
            code(kind.__mro__[1].__name__),
            str(kind.status),
            code(kind.end),
            said(kind),
        )
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.BridgeError)
    ]
    return table(("error", "is a", "status", "`end`", "meaning"), rows)


def end_table() -> str:
    """How an exchange can end."""
    return "`end` is one of " + code(*get_args(errors.End)) + "."


def command_tables() -> str:
    """One table a command: option, default, help."""
    return "\n\n".join(_command_parts("llmbridge", get_command(app)))


def _command_parts(path: str, group: Any) -> Iterator[str]:
    for name, command in group.commands.items():
        about, _, _ = inspect.cleandoc(command.help).partition("\n\n\b")
        yield from (f"## {path} {name}", about)
        if hasattr(command, "commands"):
            yield from _command_parts(f"{path} {name}", command)
            continue
        rows = [
            (_option(each), _option_default(each), each.help)
            for each in command.params
            if each.name != "help"
        ]
        yield table(("option", "default", "meaning"), rows)


def _option(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return code(parameter.metavar)
    option = " ".join(filter(None, [parameter.opts[0], parameter.metavar]))
    return code(option, *([f"{parameter.envvar}=..."] if parameter.envvar else []))


def _option_default(parameter: Any) -> str:
    if isinstance(parameter.show_default, str):
        return parameter.show_default
    if parameter.required:
        return "needed"
    return "off" if parameter.is_flag else code(str(parameter.default))


def compatibility_tables() -> str:
    """Each row of the other systems, and the tests that hold it."""
    rows, parts = held(), list[str]()
    for system, (about, features) in SYSTEMS.items():
        done = sum((system, row) in rows for row in range(1, len(features) + 1))
        parts += [f"## {about}", f"{done} of {len(features)} rows are held by tests."]
        lines = (
            (str(row), feature, _tests(rows.get((system, row), [])))
            for row, feature in enumerate(features, 1)
        )
        parts.append(table(("row", "what it does", "held by"), lines))
    return "\n\n".join(parts)


def _tests(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "not yet"


PAGES: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "how-to/replay.md": {"matching": matching_table},
    "reference/api.md": {"api": api_tables},
    "reference/frames.md": {"columns": frame_tables, "filters": filter_table},
    "reference/providers.md": {"providers": provider_table, "fields": provider_fields},
    "reference/dialects.md": {"dialects": dialect_table, "routes": route_table},
    "reference/events.md": {"events": event_table},
    "reference/errors.md": {"errors": error_table, "ends": end_table},
    "reference/command-line.md": {"commands": command_tables},
    "reference/compatibility.md": {"rows": compatibility_tables},
}
"""What stands between the marks of each page."""


def filled(name: str, page: str) -> str:
    """The page with what is between its marks written anew."""
    for mark, write in PAGES[name].items():
        begin, end = f"<!-- {mark}: written by python -m tests.reference -->", f"<!-- /{mark} -->"
        before, _, rest = page.partition(begin)
        _, found, after = rest.partition(end)
        assert found, f"{name} has no {begin} ... {end}"
        page = f"{before}{begin}\n\n{write()}\n\n{end}{after}"
    return page


def main() -> None:
    """Write the pages."""
    for name in PAGES:
        path = DOCS / name
        path.write_text(filled(name, path.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
