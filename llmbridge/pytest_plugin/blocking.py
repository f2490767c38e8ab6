"""No connections beyond loopback, by Python's own audit events: they also come from sockets that others have wrapped."""

import ipaddress
import sys
from collections.abc import Callable
from typing import Any, cast

_PLACES = {"socket.connect": 1, "socket.sendto": 1, "socket.getaddrinfo": 0}
"""Where the address stands among the arguments of an event."""


class NetworkBlocked(RuntimeError):
    """A connection beyond loopback was refused. Not an OSError, which clients take for bad weather and try again."""


class Blocker:
    """Refuses connections of this process while `on`; `tell` hears of each. Made once: audit hooks stay for ever."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.on = True
        self._tell = tell
        sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.on and event in _PLACES:
            host = _host(arguments[_PLACES[event]])
            if host and not _is_loopback(host):
                message = (
                    f"connection to {host!r} refused by --llm-block-network: "
                    "replay a recording, or run the test with --llm-record=once to make one"
                )
                self._tell(message)
                raise NetworkBlocked(message)


def _host(address: Any) -> str:
    """The host of an address; empty where there is none, as for sockets that are files."""
    host: object = cast("tuple[object, ...]", address)[0] if isinstance(address, tuple) else address
    if isinstance(host, bytes):
        host = host.decode("utf-8", "backslashreplace")
    return host if isinstance(host, str) and not host.startswith(("/", "\0")) else ""


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host.lower() == "localhost"
    return address.is_loopback or address.is_unspecified
