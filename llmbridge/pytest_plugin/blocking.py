"""No connections beyond loopback, by Python's own audit events: they also come from sockets that others have wrapped.

uvloop opens its connections below Python, without these events: its loop is asked to look first.
"""

import ipaddress
import sys
from collections.abc import Callable
from functools import wraps
from importlib.util import find_spec
from typing import Any, cast

_PLACES = {"socket.connect": 1, "socket.sendto": 1, "socket.getaddrinfo": 0}
"""Where the address stands among the arguments of an event."""

_UVLOOP = {
    "create_connection": (1, "host"),
    "create_datagram_endpoint": (2, "remote_addr"),
    "getaddrinfo": (0, "host"),
    "sock_connect": (1, "address"),
    "sock_sendto": (2, "address"),
}
"""Where the address stands among the arguments of a method of its loop, and what it is called."""


class NetworkBlocked(RuntimeError):
    """A connection beyond loopback was refused. Not an OSError, which clients take for bad weather and try again."""


class Blocker:
    """Refuses connections of this process while `on`; `tell` hears of each. Made once: audit hooks stay for ever."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.on = True
        self._tell = tell
        sys.addaudithook(self._audit)
        if find_spec("uvloop"):
            import uvloop  # noqa: PLC0415  # only where it is installed, and a run blocks

            for name, (place, keyword) in _UVLOOP.items():
                setattr(uvloop.Loop, name, self._guarded(uvloop.Loop, name, place, keyword))

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.on and event in _PLACES:
            self._look(arguments[_PLACES[event]])

    def _guarded(self, loop: type, name: str, place: int, keyword: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(loop, name)

        @wraps(method)
        def guarded(loop: object, *arguments: Any, **named: Any) -> Any:
            if self.on:
                self._look(named.get(keyword, next(iter(arguments[place:]), None)))
            return method(loop, *arguments, **named)

        return guarded

    def _look(self, address: Any) -> None:
        host = _host(address)
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
