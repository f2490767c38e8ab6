"""What answers a test's calls, and what was refused on the way."""

from collections.abc import Awaitable, Callable

from _pytest.outcomes import Failed  # pytest.fail.Exception, as a class to type checkers too

from llmbridge.errors import (
    BridgeError,
    CassetteMiss,
    CassetteMissed,
    ScriptExhausted,
    ScriptFailed,
)
from llmbridge.exchange.call import Call, Handler, Reply
from llmbridge.exchange.redact import Redactor
from llmbridge.upstreams.lines import Line
from llmbridge.upstreams.script import Script


class Unanswered(Failed, CassetteMissed):
    """A call of this process found no answer. A failure in pytest's own words: anyio's runner survives no other."""


class Watch:
    """An upstream in front of another, which may be changed; `problems` are what a test must not pass with."""

    def __init__(self, upstream: Handler, *, spends_keys: bool, strict: bool) -> None:
        self.upstream = upstream
        self.spends_keys = spends_keys
        self._strict = strict
        self.problems: list[str] = []

    def __repr__(self) -> str:
        return repr(self.upstream)

    async def __call__(self, call: Call) -> Reply:
        """What the upstream says.

        Raises:
            CassetteMiss: no recording answers.
            ScriptExhausted: no line is left.
            ScriptFailed: a function in the script failed.
        """
        try:
            return await self.upstream(call)
        except (CassetteMiss, ScriptExhausted, ScriptFailed) as error:
            self.problems.append(error.message)
            if self._strict:
                error.loud = Unanswered
            raise

    # What a bridge asks of an upstream that has it

    def equip(self, redactor: Redactor, default_upstream: Callable[[], Handler]) -> None:
        """Hand on the bridge's secrets and its live upstream."""
        self._part("equip", redactor, default_upstream)

    def flush(self) -> None:
        """Write what was recorded."""
        self._part("flush")

    def settle(self) -> None:
        """Write what was recorded, failures included."""
        self._part("settle")

    async def aclose(self) -> None:
        """Let go of connections."""
        close: Callable[[], Awaitable[None]] | None = getattr(self.upstream, "aclose", None)
        if close is not None:
            await close()

    def _part(self, name: str, *arguments: object) -> None:
        part: Callable[..., None] | None = getattr(self.upstream, name, None)
        if part is not None:
            part(*arguments)


class Unanswering:
    """An upstream that only says why there is none."""

    def __init__(self, error: BridgeError) -> None:
        self._error = error

    async def __call__(self, call: Call) -> Reply:
        """No reply.

        Raises:
            BridgeError: always.
        """
        raise self._error


class Scripts:
    """Scripts one after the other, so that a test can go on with another."""

    def __init__(self) -> None:
        self._scripts: list[Script] = []

    def __repr__(self) -> str:
        return f"Scripts({', '.join(map(repr, self._scripts))})"

    @property
    def left(self) -> tuple[Line, ...]:
        """The lines still to be said."""
        return tuple(line for script in self._scripts for line in script.left)

    def add(self, script: Script) -> None:
        """Say this, too, once the lines before are said."""
        self._scripts.append(script)

    async def __call__(self, call: Call) -> Reply:
        """The next line.

        Raises:
            ScriptExhausted: no line is left.
        """
        if not self._scripts:
            raise ScriptExhausted('the fake provider has no lines: give some, fake_llm("Hello")')
        for script in self._scripts[:-1]:
            try:
                return await script(call)
            except ScriptExhausted:
                continue
        return await self._scripts[-1](call)
