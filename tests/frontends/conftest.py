from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from llmbridge.exchange.call import Handle
from llmbridge.frontends.admission import LOOPBACK_HOSTS
from llmbridge.frontends.asgi import ASGIApp
from llmbridge.frontends.server import Server
from tests.frontends.fakes import encode_error


@pytest.fixture
def portal() -> Iterator[BlockingPortal]:
    """The loop that the bridge works on, in a thread of its own."""
    with start_blocking_portal() as portal:
        yield portal


@pytest.fixture
def serve(portal: BlockingPortal) -> Iterator[Callable[..., Server]]:
    """Serve a handle until the end of the test."""
    with ExitStack() as servers:

        def serve(handle: Handle, token: str | None = None, **options: Any) -> Server:
            rules = {name: options.pop(name) for name in ("limits", "waits") if name in options}
            app = ASGIApp(handle, encode_error, token=token, allowed_hosts=LOOPBACK_HOSTS, **rules)
            return servers.enter_context(Server(app, portal, **options))

        yield serve
