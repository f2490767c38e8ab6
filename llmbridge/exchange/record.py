"""What is kept of a call, the store that keeps it, and what a record means.

An `Interception` is what one client asked. A `Record` is one exchange with an upstream inside it: the upstream's own
bytes with the times they came. What they mean is read from the bytes, when somebody asks.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from importlib import import_module
from typing import Any, Protocol

from llmbridge.canon.events import Delta, Fail, fold
from llmbridge.canon.markup import facts, panel, preformatted
from llmbridge.canon.messages import Ask, AssistantMessage, message_html
from llmbridge.canon.quick import quick
from llmbridge.canon.strict_json import loads_strict
from llmbridge.errors import End
from llmbridge.exchange.call import Headers, Request
from llmbridge.exchange.codec import ReplyDecoder
from llmbridge.exchange.stop import STOPPED
from llmbridge.exchange.toolbox import ToolRun
from llmbridge.providers import dialect_named
from llmbridge.wire.loose_json import is_object
from llmbridge.wire.sse import SSE
from llmbridge.wire.tool_turns import answered_call

Chunk = tuple[float, bytes]
"""Seconds since the request was sent, and the bytes that came then."""


BODY = "body"
"""The rule that has fired, as `Record.redacted` tells it, where prompts and answers were not to be recorded."""


@quick
@dataclass(frozen=True, slots=True)
class Interception:
    """What one client asked of the bridge, and how that ended. Times are UTC."""

    id: str
    started_at: datetime
    request: Request
    frontend: str = "direct"
    actor: str | None = None
    client: str | None = None
    session_id: str | None = None
    provider: str | None = None
    dialect: str | None = None
    model: str | None = None
    streaming: bool = False
    ended_at: datetime | None = None
    status: int | None = None
    end: End | None = None
    error_type: str | None = None
    error: str | None = None
    replayed: bool = False
    fault: str | None = None
    tool_runs: tuple[ToolRun, ...] = ()

    def anew(self, id: str, started_at: datetime) -> "Interception":
        """The same, asked once more; nothing has come of it yet."""
        return Interception(
            id,
            started_at,
            self.request,
            self.frontend,
            self.actor,
            self.client,
            self.session_id,
            self.provider,
            self.dialect,
            self.model,
            self.streaming,
        )

    def ended(  # noqa: PLR0913  # all that is known of an end
        self,
        ended_at: datetime,
        end: End,
        status: int | None,
        error_type: str | None,
        error: str | None,
        replayed: bool,
        fault: str | None,
        tool_runs: tuple[ToolRun, ...] = (),
    ) -> "Interception":
        """The same as it ended."""
        # `replace` would take three times as long.
        return Interception(
            self.id,
            self.started_at,
            self.request,
            self.frontend,
            self.actor,
            self.client,
            self.session_id,
            self.provider,
            self.dialect,
            self.model,
            self.streaming,
            ended_at,
            status,
            end,
            error_type,
            error,
            replayed,
            fault,
            tool_runs,
        )

    @property
    def answered_call(self) -> str | None:
        """The id of the tool call whose result this request brings, which ties it to an earlier one."""
        try:
            body = loads_strict(self.request.body)
        except ValueError:
            return None
        dialect = dialect_named(self.dialect or "")
        return answered_call(dialect, body) if is_object(body) else None

    def __repr__(self) -> str:
        how = f"{self.status} {self.end}" if self.end else "under way"
        return (
            f"Interception({self.id}: {self.provider} {self.dialect} {self.model or ''!r}, {how})"
        )

    def _repr_html_(self) -> str:
        return panel(
            f"Interception {self.id}",
            facts(
                provider=self.provider,
                model=self.model,
                dialect=self.dialect,
                frontend=self.frontend,
                actor=self.actor,
                status=self.status,
                end=self.end or "under way",
                error_type=self.error_type,
                error=self.error,
            ),
            preformatted(f"{self.request.method} {self.request.url}"),
        )


@quick
@dataclass(frozen=True)
class Record:
    """One exchange with an upstream: the request as sent, the answer as it came, secrets already out.

    `request` is None where a file kept the answer alone; `started_at` (UTC) is None where it does not say. `timed` is
    False where the chunk borders and times were not recorded. `key_hint` masks the key that was used; a cassette, made to be
    shared, does not hold it.
    """

    # No slots: `message` is decoded once and kept.
    interception_id: str
    provider: str
    dialect: str
    request: Request | None
    status: int
    headers: Headers
    chunks: tuple[Chunk, ...]
    started_at: datetime | None = None
    round: int = 0
    model: str | None = None
    head_s: float | None = None
    duration_s: float | None = None
    end: End = "completed"
    error: str | None = None
    redacted: tuple[str, ...] = ()
    replayed: bool = False
    timed: bool = True
    key_hint: str | None = None

    def __repr__(self) -> str:
        size = sum(len(chunk) for _, chunk in self.chunks)
        return (
            f"Record({self.provider} {self.dialect} {self.model or ''!r}: {self.status} {self.end},"
            f" {len(self.chunks):,} chunks, {size:,} bytes)"
        )

    def _repr_html_(self) -> str:
        message = self.message
        asked = f"{self.request.method} {self.request.url}" if self.request else "request not kept"
        return panel(
            f"Record {self.provider} {self.model or ''}",
            facts(
                dialect=self.dialect,
                status=self.status,
                end=self.end,
                error=self.error,
                key=self.key_hint,
                seconds=None if self.duration_s is None else f"{self.duration_s:.2f}",
                chunks=f"{len(self.chunks):,}",
                redacted=", ".join(self.redacted) or None,
            ),
            preformatted(asked),
            preformatted(self.body.decode(errors="replace"))
            if message is None
            else message_html(message),
        )

    @property
    def body(self) -> bytes:
        """The answer's bytes, joined."""
        return b"".join(chunk for _, chunk in self.chunks)

    @cached_property
    def message(self) -> AssistantMessage | None:
        """The answer decoded; None when it is not of its dialect."""
        message = fold(delta for _, _, deltas in self.steps() for delta in deltas)
        return None if message.error_type == "undecodable" else message

    def steps(self) -> Iterator[tuple[float, SSE | None, tuple[Delta, ...]]]:
        """Each event of the wire with the second it came and what it means."""
        decoder = ReplyDecoder(dialect_named(self.dialect), self.status, self.headers)
        seconds = 0.0
        for seconds, chunk in self.chunks:
            for sse, deltas in decoder.feed(chunk):
                yield seconds, sse, deltas
        for sse, deltas in decoder.close():
            yield self.duration_s or seconds, sse, tuple(map(self._told, deltas))

    def _told(self, delta: Delta) -> Delta:
        """A codec knows that the answer breaks off, and not that somebody here wanted that."""
        if isinstance(delta, Fail) and delta.error_type == "truncated" and self.error == STOPPED:
            return replace(delta, error_type="stopped", error=STOPPED, stop_reason="aborted")
        return delta

    def play(self) -> Any:
        """A widget that steps through it, event by event, at any speed.

        Raises:
            ConfigurationError: anywidget is not installed.
        """
        return play((self,))

    def ask(self) -> Ask | None:
        """The request decoded; None when there is none or it is not of its dialect."""
        if self.request is None:
            return None
        try:
            body = loads_strict(self.request.body)
        except ValueError:
            return None
        return dialect_named(self.dialect).decode_request(body) if is_object(body) else None


def play(records: Iterable[Record]) -> Any:
    """A widget that steps through these.

    Raises:
        ConfigurationError: anywidget is not installed.
    """
    # By name: it is far above, and nothing here builds on it.
    return import_module("llmbridge.notebook.widgets").play(records)


class Store(Protocol):
    """Where interceptions and records go, and where they are read from."""

    async def begin(self, interception: Interception) -> None:
        """Returns once the start is durable; a failure refuses the call."""
        ...

    def add(self, record: Record) -> None:
        """Take a finished exchange. Never waits."""
        ...

    def end(self, interception: Interception) -> None:
        """Take the interception as it ended. Never waits; complete after `flush`."""
        ...

    def flush(self) -> None:
        """Return when everything taken so far is durable."""
        ...

    def close(self) -> None:
        """Flush and let go of files and threads."""
        ...

    def interceptions(self, **filters: object) -> Sequence[Interception]:
        """Interceptions by start time; a filter names a field and the value it must have."""
        ...

    def records(self, **filters: object) -> Sequence[Record]:
        """Records in the order they were made; filters as above."""
        ...

    def __iter__(self) -> Iterator[Record]:
        """All records."""
        ...
