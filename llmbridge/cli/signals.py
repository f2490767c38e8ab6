"""What a program that serves does when it is told to end."""

import signal
from collections.abc import Callable
from types import FrameType


def on_stop(stop: Callable[[], object]) -> None:
    """Call `stop` at the first SIGINT or SIGTERM; the second one ends the process as usual."""

    def handle(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        stop()

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)
