"""A way to a PostgreSQL server that can be cut, at a chosen moment."""

import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread


class Relay:
    """Carries bytes from a port of 127.0.0.1 to the server's socket."""

    def __init__(self, folder: Path) -> None:
        self.cut_after: bytes | None = None
        """Once a client says this and the server has answered, the client gets no answer but an end."""
        self._server = str(folder / ".s.PGSQL.5432")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._threads: list[Thread] = []
        self.connect()

    def connect(self) -> None:
        """Let clients through, again after `disconnect`."""
        if self._listener.fileno() == -1:
            self._listener = socket.create_server(("127.0.0.1", self.port))
        thread = Thread(target=self._accept, args=(self._listener,))
        thread.start()
        self._threads.append(thread)

    def disconnect(self) -> None:
        """End all connections, and refuse new ones."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in tuple(self._open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _accept(self, listener: socket.socket) -> None:
        carriers: list[Thread] = []
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                carriers.append(Thread(target=self._carry, args=(client,)))
                carriers[-1].start()
        for carrier in carriers:
            carrier.join()

    def _carry(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        server.connect(self._server)
        self._open |= {client, server}
        with client, server, suppress(OSError):
            while self._pass_on(client, server):
                pass
        self._open -= {client, server}

    def _pass_on(self, client: socket.socket, server: socket.socket) -> bool:
        """Carry what has come from either end; False when there will be no more."""
        for end in select.select([client, server], [], [])[0]:
            data = end.recv(65536)
            if not data:
                return False
            if end is server:
                client.sendall(data)
                continue
            server.sendall(data)
            if self.cut_after is not None and self.cut_after in data:
                self.cut_after = None
                server.recv(65536)
                return False
        return True


@contextmanager
def relayed(folder: Path) -> Iterator[Relay]:
    """A relay, as long as the block lasts."""
    relay = Relay(folder)
    try:
        yield relay
    finally:
        relay.disconnect()
