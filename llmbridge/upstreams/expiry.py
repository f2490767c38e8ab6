"""Recordings grow old: say so, or refuse to replay them; never ask the provider for that alone."""

import inspect
import warnings
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from llmbridge.errors import CassetteError, ConfigurationError
from llmbridge.exchange.record import Record

OnExpired = Literal["warn", "fail"]
"""Recordings past their age are replayed with a warning, or are an error."""


# A block of `bridge.cassette` is entered by way of the second.
_OURS = ("llmbridge", "contextlib")


class RecordingsExpired(UserWarning):
    """Recordings are older than they should be."""


def check_age(
    records: Iterable[Record],
    max_age: timedelta | None,
    on_expired: OnExpired,
    now: datetime,
    where: str = "",
) -> None:
    """Warn or raise when a recording is older than `max_age`; one without a date never is. `where` names the cassette.

    Raises:
        CassetteError: one is, and `on_expired` is `fail`.
        ConfigurationError: `max_age` is no length of time.
    """
    if max_age is None:
        return
    given: Any = max_age
    if not isinstance(given, timedelta):
        raise ConfigurationError(f"max_age={given!r}: give a timedelta, such as timedelta(days=90)")
    dates = [_utc(record.started_at) for record in records if record.started_at is not None]
    old = [date for date in dates if now - date > max_age]
    if not old:
        return
    message = (
        f"{len(old)} of the recordings are older than max_age={max_age}, the oldest of"
        f" {min(old):%Y-%m-%d}{where and f', in {where}'}: record them anew with mode='rewrite', or"
        " allow more"
    )
    if on_expired == "fail":
        raise CassetteError(message)
    warnings.warn(message, RecordingsExpired, stacklevel=_above_us())


def _above_us() -> int:
    """Which of the callers is the first that is not ours, counted from the one that asks."""
    frame, level = inspect.currentframe(), 0
    while frame is not None and frame.f_globals["__name__"].partition(".")[0] in _OURS:
        frame, level = frame.f_back, level + 1
    return level


def _utc(date: datetime) -> datetime:
    return date if date.tzinfo else date.replace(tzinfo=UTC)
