"""Old interceptions of a SQL store, taken out with all their records."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

from sqlalchemy import Connection, Engine, select

from llmbridge.stores.conditions import Progress
from llmbridge.stores.sql_digests import forget
from llmbridge.stores.sql_schema import INTERCEPTIONS, RECORDS

_PAGE = 500
"""So many at a time: others who write wait for one page, not for all."""


class Changed(Protocol):
    """A database where something is deleted."""

    def changing(self) -> AbstractContextManager[Connection]:
        """A transaction that reads and then writes."""
        ...

    def forget_deleted(self) -> None:
        """Called after the last one."""
        ...


def begun_before(engine: Engine, before: datetime) -> Sequence[str]:
    """The ids of what began before that and is over, of records that are alone, too."""
    calls = select(INTERCEPTIONS.c.id)
    alone = RECORDS.c.interception_id.not_in(calls)
    old = calls.where(INTERCEPTIONS.c.started_at < before, INTERCEPTIONS.c.end.is_not(None))
    rest = select(RECORDS.c.interception_id).where(RECORDS.c.started_at < before, alone)
    with engine.connect() as connection:
        return connection.execute(old.union(rest)).scalars().all()


def delete(database: Changed, ids: Sequence[str], progress: Progress | None = None) -> None:
    """Take them out, and leave as little of them as the database can."""
    for start in range(0, len(ids), _PAGE):
        page = ids[start : start + _PAGE]
        with database.changing() as connection:
            forget(connection, page)
            connection.execute(RECORDS.delete().where(RECORDS.c.interception_id.in_(page)))
            connection.execute(INTERCEPTIONS.delete().where(INTERCEPTIONS.c.id.in_(page)))
        if progress:
            progress(min(start + _PAGE, len(ids)), len(ids))
    database.forget_deleted()
