"""What breaks the silence of a provider that thinks: clients read over it, timers on the way begin anew."""

from collections.abc import Mapping
from types import MappingProxyType

from llmbridge.exchange.call import Call

_COMMENT = b": ping\n\n"
_EVENT = b'event: ping\ndata: {"type": "ping"}\n\n'
# Google's SDK takes a comment for a part of its JSON; the dialects that are not here get nothing.
_PINGS: Mapping[str, bytes] = MappingProxyType(
    {
        "anthropic.messages": _EVENT,
        "openai.chat": _COMMENT,
        "openai.completions": _COMMENT,
        "openai.responses": _COMMENT,
    }
)


def ping(call: Call) -> bytes:
    """What may be said between two events, in the client's dialect; nothing where a fault may be the silence."""
    if call.faults:
        return b""
    return _PINGS.get((call.client_dialect or call.dialect).name, b"")
