"""The magic `%%llm`: a cell that is a prompt. `%load_ext llmbridge` brings it into IPython and Jupyter."""

import re
import shlex
import time
import warnings
from argparse import SUPPRESS, ArgumentParser, RawTextHelpFormatter
from collections.abc import Iterator
from dataclasses import dataclass
from keyword import iskeyword
from typing import Any, NoReturn, Protocol

from IPython.core import display_functions
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from llmbridge.bridge import Bridge
from llmbridge.canon.events import BlockDelta, Event
from llmbridge.canon.messages import (
    AssistantMessage,
    Context,
    JsonObject,
    Model,
    Text,
    UserMessage,
    message_html,
    message_line,
)
from llmbridge.errors import BridgeError
from llmbridge.exchange.stop import STOPPED
from llmbridge.wire.settings import SETTINGS, Settings

_ABOUT = """Ask a model and watch it answer: what stands below the line is the prompt.

    %%llm anthropic/claude-sonnet-5 --system "Be brief."
    Why is the sky blue?

The message is in _ afterwards, and the call among the bridge's records. Interrupt the kernel to stop: what came until
then is kept. The bridge is the variable `bridge`; where there is none, one is made, which asks the provider with the
key from the environment. With a Replay or a Script behind it no key is needed.

%llm alone in a line, with the same arguments, sets what the cells after it may leave out.
"""

_MAKERS = {"claude": "anthropic", "gpt": "openai", "gemini": "google"}
"""Who answers when the name of a model begins so and nobody said."""

_BRIDGE = "bridge"
"""The variable with the bridge, where the person names none."""

_UNKNOWN = re.compile(r"\{([A-Za-z_]\w*)\}")

_FRAME_S = 0.1
_CHARS_PER_S = 256 * 1024
_SHOWN_CHARS = 200_000
"""A person asked for this text, so it is shown as a whole, unless it would stop the page."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the line says."""

    model: str = ""
    provider: str = ""
    api: str = ""
    bridge: str = _BRIDGE
    system: str = ""
    max_tokens: int | None = None
    temperature: float | None = None
    thinking: str | None = None
    to: str = ""
    live: bool = False


class Stopped(KeyboardInterrupt):
    """The person stopped the reply: a cell says so in one line, and those that wait behind it do not run."""

    def _render_traceback_(self) -> list[str]:
        return [f"Stopped: {self}"]


class Magic:
    """`%%llm` of one shell: in a cell it asks, in a line it says what the cells after it need not repeat."""

    def __init__(self, shell: InteractiveShell) -> None:
        # Any: IPython leaves out half of its types.
        self._shell: Any = shell
        # The names that the person's cells share.
        self._names: dict[str, Any] = self._shell.user_ns
        self._said: dict[str, Any] = {}
        self._parser = _parser()
        self.__doc__ = f"{_ABOUT}\n{self._parser.format_help()}"

    def __call__(self, line: str, cell: str | None = None) -> None:
        said = vars(self._parser.parse_args(_words(line)))
        if said.pop("help", False):
            print(self.__doc__)  # noqa: T201  # what the person asked for
            return
        if cell is None:
            self._said = said
            return
        asked = _Asked(**self._said | said)
        if asked.to and (not asked.to.isidentifier() or iskeyword(asked.to)):
            raise UsageError(f"--to {asked.to!r} is no name of a variable: say --to answer")
        if unknown := _UNKNOWN.search(asked.system):
            # IPython puts in what it knows before this is called.
            message = f"--system: no variable {unknown[1]!r}, so {unknown[0]} stays as it is"
            warnings.warn(message, stacklevel=2)
        if not cell.strip():
            raise UsageError("the prompt is missing: write it below the line with %%llm")
        bridge = self._bridge(asked.bridge)
        model = _model(bridge, asked)
        context = Context(asked.system, (UserMessage((Text(cell.strip()),)),))
        try:
            events = bridge.stream_sync(model, context, _options(bridge, model, asked))
            self._watch(events, asked.to, self._view(bridge, asked))
        except BridgeError as error:
            raise UsageError(error.message) from error

    def _bridge(self, name: str) -> Bridge:
        bridge = self._names.get(name)
        if bridge is None and name != _BRIDGE:
            raise UsageError(f"no variable {name!r}: make it first, {name} = Bridge()")
        if bridge is None:
            bridge = self._names[name] = Bridge()
        if not isinstance(bridge, Bridge):
            kind = type(bridge).__name__
            raise UsageError(f"{name!r} is of {kind}: name a variable with a Bridge, --bridge NAME")
        return bridge

    def _view(self, bridge: Bridge, asked: _Asked) -> "_View":
        if not getattr(self._shell, "kernel", None):
            return _Terminal()
        return _Inspected(bridge) if asked.live else _Page()

    def _watch(self, events: Iterator[Event], name: str, view: "_View") -> None:
        """Show the message as it grows and keep it, also when it breaks off."""
        event: Event | None = None
        try:
            for event in events:
                view.take(event)
        except KeyboardInterrupt:
            raise Stopped(f"what came until now is in {name or '_'}") from None
        finally:
            if event is not None:
                self._keep(event.partial, name)
                view.close(event.partial)
        if event is not None and event.type == "error":
            message = event.partial
            if message.error == STOPPED:
                raise Stopped(f"what came until now is in {name or '_'}")
            raise UsageError(f"{message.error_type}: {message.error}")

    def _keep(self, message: AssistantMessage, name: str) -> None:
        # As `_` and `Out`, where a value at the end of a cell would be, and not shown again.
        self._shell.displayhook.update_user_ns(message)
        if name:
            self._names[name] = message


class _View(Protocol):
    def take(self, event: Event) -> None: ...

    def close(self, message: AssistantMessage) -> None: ...


class _Page:
    """The message in a notebook, drawn anew ten times a second, and more seldom the longer it is."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._due_at = 0.0

    def take(self, event: Event) -> None:
        now = time.monotonic()
        if now >= self._due_at:
            size = self._draw(event.partial)
            self._due_at = now + max(_FRAME_S, size / _CHARS_PER_S)

    def close(self, message: AssistantMessage) -> None:
        self._draw(message)

    def _draw(self, message: AssistantMessage) -> int:
        html = message_html(message, _SHOWN_CHARS)
        shown = {"text/plain": message_line(message), "text/html": html}
        if self._handle is None:
            module: Any = display_functions
            self._handle = module.display(shown, raw=True, display_id=True)
        else:
            self._handle.update(shown, raw=True)
        return len(html)


class _Inspected:
    """The inspector, which follows by itself."""

    def __init__(self, bridge: Bridge) -> None:
        module: Any = display_functions
        module.display(bridge.live())

    def take(self, event: Event) -> None:
        """Nothing to do."""

    def close(self, message: AssistantMessage) -> None:
        """Nothing to do."""


class _Terminal:
    """The text in a terminal, as it comes."""

    def take(self, event: Event) -> None:
        if event.type == "text_delta" and isinstance(event.delta, BlockDelta):
            print(event.delta.text, end="", flush=True)  # noqa: T201  # what the person asked for

    def close(self, message: AssistantMessage) -> None:
        if message.text:
            print()  # noqa: T201  # likewise


class _Parser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; %%llm? tells more")


def _parser() -> ArgumentParser:
    parser = _Parser(
        "%%llm",
        add_help=False,
        allow_abbrev=False,
        argument_default=SUPPRESS,
        formatter_class=RawTextHelpFormatter,
    )
    add = parser.add_argument
    add("model", nargs="?", help="who answers, as in openai/gpt-5-mini")
    add("--provider", metavar="NAME", help="the provider, where the model does not name it")
    add("--api", metavar="DIALECT", help="the dialect, where a provider speaks several")
    add("--bridge", metavar="NAME", help="the variable that holds the bridge")
    add("--system", metavar="TEXT", help="the system prompt, in quotes")
    add("--max-tokens", metavar="N", type=int, help="how long the answer may be")
    add("--temperature", metavar="X", type=float, help="how freely words are chosen")
    levels = ("off", "minimal", "low", "medium", "high", "xhigh")
    add("--thinking", metavar="LEVEL", choices=levels, help=f"one of {', '.join(levels)}")
    add("-h", "--help", action="store_true", help="show this")
    add("--to", metavar="NAME", help="a variable that gets the message, beside _")
    add("--live", action="store_true", help="show the inspector: events, timeline, tokens, Stop")
    return parser


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as error:
        raise UsageError(f"{line!r}: {error}") from error


def _model(bridge: Bridge, asked: _Asked) -> Model:
    if not asked.model:
        raise UsageError("who shall answer? Say %%llm openai/gpt-5-mini, for example")
    if asked.provider:
        return Model(asked.provider, asked.model, asked.api)
    maker, _, rest = asked.model.partition("/")
    if rest and any(row.name == maker for row in bridge.providers):
        return Model(maker, rest, asked.api)
    guessed = next((_MAKERS[name] for name in _MAKERS if asked.model.startswith(name)), None)
    if guessed is None:
        raise UsageError(f"whose model is {asked.model!r}? Say provider/model, or --provider NAME")
    return Model(guessed, asked.model, asked.api)


def _options(bridge: Bridge, model: Model, asked: _Asked) -> JsonObject:
    """The settings in the words of the dialect that will be spoken."""
    spoken = next((row.dialects for row in bridge.providers if row.name == model.provider), ("",))
    codec = SETTINGS.get(model.api or spoken[0])
    if codec is None:
        return {}
    return codec.encode(
        Settings(
            max_tokens=asked.max_tokens, temperature=asked.temperature, thinking=asked.thinking
        )
    )
