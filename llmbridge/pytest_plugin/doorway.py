"""An address that can be given out at once, and a server that starts when somebody comes."""

import selectors
import socket
from collections.abc import Callable
from threading import Lock, Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmbridge.frontends.server import Server

_BACKLOG = 2048


class Doorway:
    """Listens from the start, so that clients wait instead of failing; `open_server` is called when the first comes."""

    def __init__(self, open_server: "Callable[[socket.socket], Server]") -> None:
        self._open_server = open_server
        self._server: Server | None = None
        self._lock = Lock()
        # The protocol by its number: asyncio turns Nagle's algorithm off only where it is named.
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(_BACKLOG)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._waker, self._woken = socket.socketpair()
        self._thread = Thread(target=self._wait, name="llmbridge-doorway", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving and listening."""
        self._waker.close()
        self._thread.join()
        self._woken.close()
        with self._lock:
            server, self._server = self._server, None
        if server is None:
            self._listener.close()
        else:
            server.stop()

    def _wait(self) -> None:
        with selectors.DefaultSelector() as selector:
            for each in (self._listener, self._woken):
                selector.register(each, selectors.EVENT_READ)
            ready = [key.fileobj for key, _ in selector.select()]
        if self._woken not in ready:
            server = self._open_server(self._listener)
            with self._lock:
                self._server = server
