import asyncio
from collections.abc import Callable
from time import monotonic

import pytest


@pytest.fixture
def much_later(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Set the clock of the running loop on by 200 seconds, once."""

    def set_on() -> None:
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: monotonic() + 200)

    return set_on
