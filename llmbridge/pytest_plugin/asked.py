"""What tests hold in their hands: the cassette, the fake provider, and what was asked of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from llmbridge.canon.messages import Ask, JsonObject
from llmbridge.canon.strict_json import loads_strict
from llmbridge.exchange.record import Record
from llmbridge.pytest_plugin.options import Mode
from llmbridge.pytest_plugin.turn import Turn
from llmbridge.upstreams.lines import Cue, Line, When
from llmbridge.upstreams.script import Script
from llmbridge.upstreams.subset import difference

if TYPE_CHECKING:
    from anthropic import Anthropic, AsyncAnthropic
    from openai import AsyncOpenAI, OpenAI

    from llmbridge.frames import Frames
    from llmbridge.pytest_plugin.session_bridge import SessionBridge


class Asked:
    """What the test asked so far, and clients that ask without a socket."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn

    @property
    def bridge(self) -> "SessionBridge":
        """The bridge that answers."""
        return self._turn.bridge

    @property
    def records(self) -> Sequence[Record]:
        """Every exchange of the test so far, in order."""
        return self._turn.records

    @property
    def asks(self) -> list[Ask]:
        """What was asked, decoded."""
        return [ask for record in self.records if (ask := record.ask()) is not None]

    @property
    def frames(self) -> "Frames":
        """What happened, as pandas DataFrames."""
        return self.bridge.frames

    def openai(self, **options: Any) -> "OpenAI":
        """An OpenAI SDK client."""
        return self.bridge.openai(**options)

    def async_openai(self, **options: Any) -> "AsyncOpenAI":
        """The same, async."""
        return self.bridge.async_openai(**options)

    def anthropic(self, **options: Any) -> "Anthropic":
        """An Anthropic SDK client."""
        return self.bridge.anthropic(**options)

    def async_anthropic(self, **options: Any) -> "AsyncAnthropic":
        """The same, async."""
        return self.bridge.async_anthropic(**options)

    def assert_called(self, times: int | None = None) -> None:
        """The model was asked, this often where `times` is given.

        Raises:
            AssertionError: it was not.
        """
        count = len(self.records)
        assert count if times is None else count == times, (
            f"the model was asked {count} times, not {'at all' if times is None else times}"
        )

    def assert_called_with(self, subset: JsonObject) -> None:
        """The last request's JSON holds all this; lists are as long, and `...` stands for anything.

        Raises:
            AssertionError: it does not, or there was no request.
        """
        self.assert_called()
        request = self.records[-1].request
        assert request is not None, "a request of this process is known"
        found = difference(subset, loads_strict(request.body))
        assert not found, f"the last request differs: {found}"


class LLMCassette(Asked):
    """The test's cassette."""

    def __repr__(self) -> str:
        return f"LLMCassette({str(self.path)!r}, mode={self.mode!r}, {len(self.played)} played)"

    @property
    def path(self) -> Path:
        """The file; it may not be there yet."""
        return self._turn.path

    @property
    def mode(self) -> Mode:
        """The record mode that holds."""
        return self._turn.wanted.mode

    @property
    def recordings(self) -> list[Record]:
        """What the file holds."""
        return self._turn.recordings

    @property
    def played(self) -> list[Record]:
        """What was answered from it so far."""
        return self._turn.played

    @property
    def misses(self) -> list[str]:
        """What it did not answer so far, in words. They fail the test when it ends."""
        return self._turn.misses

    @property
    def unused(self) -> list[str]:
        """What was not played so far, in words."""
        return self._turn.unused


class FakeLLM(Asked):
    """A provider whose replies are written in the test; it answers the whole test, in each client's dialect."""

    def __init__(self, turn: Turn) -> None:
        super().__init__(turn)
        turn.say()

    def __call__(self, *lines: Line | Cue | When, **pace: Any) -> Self:
        """Say these lines next, and take what else a `Script` takes: rules, failures, `ttft`, `tps`, `jitter`."""
        self._turn.say(Script(*lines, **pace))
        return self

    def __repr__(self) -> str:
        return f"FakeLLM({self._turn.scripts!r})"

    @property
    def left(self) -> tuple[Line, ...]:
        """The lines still to be said."""
        return self._turn.scripts.left if self._turn.scripts is not None else ()
