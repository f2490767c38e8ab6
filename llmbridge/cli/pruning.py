"""`llmbridge prune`: what is too old, taken out of a database."""

import re
from datetime import UTC, datetime, timedelta

from llmbridge.cli.screen import FINE, Screen, bar, say_json
from llmbridge.errors import ConfigurationError
from llmbridge.exchange.recorder import Clock, utc_now
from llmbridge.stores.sql import existing

_DAYS = re.compile(r"([0-9]{1,5})d")


def run_prune(
    store: str, older_than: str, dry_run: bool, as_json: bool, clock: Clock = utc_now
) -> int:
    """Take out what began before that day and say how much it was; the exit code.

    Raises:
        ConfigurationError: there is no such database, or that is no number of days.
        StoreUnavailable: the database cannot be written.
    """
    before = _midnight(older_than, clock())
    with bar("deleting calls") as progress:
        calls = existing(store).prune(before, dry_run=dry_run, progress=progress)
    if as_json:
        say_json({"dry_run": dry_run, "before": before, "calls": calls})
    else:
        what = "would delete" if dry_run else "deleted"
        Screen().say(f"{what} {calls:,} calls that began before {before:%Y-%m-%d}")
    return FINE


def _midnight(older_than: str, now: datetime) -> datetime:
    """Days go whole, as those of an export do."""
    found = _DAYS.fullmatch(older_than)
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if found:
        return today - timedelta(days=int(found[1]))
    raise ConfigurationError(f"--older-than {older_than!r}: give a number of days, such as 30d")
