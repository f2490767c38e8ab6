"""What a dialect is: two pure codecs between a wire format and canon.

A dialect is a stateless value; state lives in the `Decoder` or `Encoder` it makes for one reply.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, Protocol

from llmbridge.canon.events import Delta, Event
from llmbridge.canon.messages import Ask, AssistantMessage, JsonObject
from llmbridge.errors import BridgeError
from llmbridge.wire.sse import SSE

Verdict = Literal["completed", "finished", "error"]
"""What an event says of its stream: it was the last; it may be the last; it is an error, and the last."""


class Decoder(Protocol):
    """Events of one streamed reply to deltas. Unknown events and fields are passed over, bad JSON too."""

    def feed(self, sse: SSE) -> Iterable[Delta]:
        """The deltas this event brings, often none."""
        ...

    def close(self) -> Iterable[Delta]:
        """What is owed at the end of input: `Finish` where the wire allows it, else `Fail("truncated")`."""
        ...


class Encoder(Protocol):
    """Canon events of one reply to server-sent events."""

    def feed(self, event: Event) -> Iterable[SSE]:
        """What goes over the wire for this event, often nothing."""
        ...


class ClientDialect(Protocol):
    """What is needed to serve a client: read what it asks, answer in its words."""

    @property
    def name(self) -> str:
        """The dialect's own name, such as `anthropic.messages`."""
        ...

    @property
    def path(self) -> str:
        """The path a client posts to, such as `/v1/messages`."""
        ...

    def streaming(self, body: JsonObject) -> bool:
        """True when the request asks for a stream."""
        ...

    def decode_request(self, body: JsonObject) -> Ask:
        """The request in canon; what canon has no word for stays in `options`."""
        ...

    def encode_reply(self, message: AssistantMessage) -> bytes:
        """The blocking answer."""
        ...

    def encoder(self, ask: Ask) -> Encoder:
        """A fresh encoder for one streamed answer to `ask`."""
        ...

    def encode_error(self, error: BridgeError) -> bytes:
        """The body of an error answer."""
        ...

    def encode_error_event(self, error: BridgeError, last: bytes = b"") -> SSE:
        """The event that ends a stream with an error; `last` are the bytes of the event before it."""
        ...


class Dialect(ClientDialect, Protocol):
    """A dialect that providers speak too."""

    @property
    def markers(self) -> Sequence[bytes]:
        """Byte strings of which an event with a verdict holds at least one; cheap to look for."""
        ...

    @property
    def terminated(self) -> bool:
        """True when a whole stream always brings a verdict; without one it was cut."""
        ...

    def verdict(self, sse: SSE) -> Verdict | None:
        """What this event says about the end of its stream."""
        ...

    def target(self, model: str, *, streaming: bool) -> str:
        """Path and query to post to, as a client of the provider would."""
        ...

    def encode_request(self, ask: Ask) -> JsonObject:
        """The request body that asks a provider for `ask`."""
        ...

    def decode_reply(self, body: bytes, status: int = 200) -> Iterable[Delta]:
        """The deltas of a blocking answer, an error answer of this `status` included.

        Raises:
            ValueError: the body is not JSON of this dialect.
        """
        ...

    def decoder(self) -> Decoder:
        """A fresh decoder for one streamed answer."""
        ...
