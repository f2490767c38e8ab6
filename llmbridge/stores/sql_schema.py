"""The tables of a SQL store.

Whoever changes them adds a step to `sql_migrations`.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
)
from sqlalchemy.types import TypeEngine

_UNSTORABLE = re.compile("[\x00\x1a\ud800-\udfff]")
_ESCAPED = re.compile("\x1a([0-9a-f]{4})")


class AnyText(TypeDecorator[str]):
    """Text as Python has it: NUL and half surrogate pairs, which databases refuse, are kept escaped."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Escape what has no place in UTF-8, and the escape itself."""
        if value is None:
            return None
        return _UNSTORABLE.sub(lambda found: f"\x1a{ord(found[0]):04x}", value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """The text as it was."""
        return unescaped(value)


def unescaped(text: str | None) -> str | None:
    """What `AnyText` had to keep."""
    if text is None or "\x1a" not in text:
        return text
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)


class UtcTime(TypeDecorator[datetime]):
    """A time with its zone, kept as UTC; one that has none is UTC already."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[datetime]:
        """PostgreSQL knows zones, SQLite does not."""
        return dialect.type_descriptor(DateTime(timezone=_knows_zones(dialect)))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """In UTC, with a zone where the database knows them."""
        if value is None:
            return None
        utc = value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
        return utc if _knows_zones(dialect) else utc.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """In UTC, whatever zone a session is in."""
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


def _knows_zones(dialect: Dialect) -> bool:
    return dialect.name == "postgresql"


def _request(*, nullable: bool) -> Iterator[Column[Any]]:
    yield Column("request_method", AnyText, nullable=nullable)
    yield Column("request_url", AnyText, nullable=nullable)
    yield Column("request_headers", Text, nullable=nullable)
    yield Column("request_caller", Text, nullable=nullable)
    yield Column("request_body", LargeBinary, nullable=nullable)


METADATA = MetaData()

INTERCEPTIONS = Table(
    "interceptions",
    METADATA,
    Column("id", AnyText, primary_key=True),
    Column("started_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime),
    Column("frontend", AnyText, nullable=False),
    Column("actor", AnyText),
    Column("client", AnyText),
    Column("session_id", AnyText),
    Column("provider", AnyText),
    Column("dialect", AnyText),
    Column("model", AnyText),
    Column("streaming", Boolean, nullable=False),
    Column("status", Integer),
    Column("end", AnyText),
    Column("error_type", AnyText),
    Column("error", AnyText),
    Column("replayed", Boolean, nullable=False),
    Column("fault", AnyText),
    Column("tool_runs", Text),
    *_request(nullable=False),
    Column("bridge", BigInteger),
    Index("interceptions_by_start", "started_at"),
)
"""One row per interception; `end` is null while it is under way at the bridge of that number."""

Index(
    "interceptions_under_way",
    INTERCEPTIONS.c.bridge,
    sqlite_where=INTERCEPTIONS.c.end.is_(None),
    postgresql_where=INTERCEPTIONS.c.end.is_(None),
)

RECORDS = Table(
    "records",
    METADATA,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("interception_id", AnyText, nullable=False),
    Column("round", Integer, nullable=False),
    Column("provider", AnyText, nullable=False),
    Column("dialect", AnyText, nullable=False),
    Column("model", AnyText),
    Column("started_at", UtcTime),
    Column("head_s", Float),
    Column("duration_s", Float),
    Column("status", Integer, nullable=False),
    Column("end", AnyText, nullable=False),
    Column("error", AnyText),
    Column("redacted", Text, nullable=False),
    Column("replayed", Boolean, nullable=False),
    Column("timed", Boolean, nullable=False),
    Column("headers", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("timing", Text, nullable=False),
    *_request(nullable=True),
    Column("bridge", BigInteger),
    Column("number", BigInteger),
    Column("key_hint", AnyText),
    Index("records_of", "interception_id", "round"),
    Index("records_once", "bridge", "number", unique=True),
)
"""One row per exchange with a provider; `timing` has the second and the size of each piece of `body`.

`bridge` and `number` name it: a batch that is written again, since nobody knows whether it was, adds nothing.
"""
