"""Old interceptions of a SQL store, taken out with all their records."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

from sqlalchemy import Engine, select
from sqlalchemy.exc import DatabaseError

from llmbridge.stores.sql_schema import INTERCEPTIONS, RECORDS

_PAGE = 500
"""So many at a time: others who write wait for one page, not for all."""


def begun_before(engine: Engine, before: datetime) -> Sequence[str]:
    """The ids of what began before that and is over, of records that are alone, too."""
    calls = select(INTERCEPTIONS.c.id)
    alone = RECORDS.c.interception_id.not_in(calls)
    old = calls.where(INTERCEPTIONS.c.started_at < before, INTERCEPTIONS.c.end.is_not(None))
    rest = select(RECORDS.c.interception_id).where(RECORDS.c.started_at < before, alone)
    with engine.connect() as connection:
        return connection.execute(old.union(rest)).scalars().all()


def delete(engine: Engine, ids: Sequence[str]) -> None:
    """Take them out, and write zeros where they were."""
    for start in range(0, len(ids), _PAGE):
        page = ids[start : start + _PAGE]
        with engine.execution_options(immediate=True).begin() as connection:
            connection.exec_driver_sql("PRAGMA secure_delete = ON")
            connection.execute(RECORDS.delete().where(RECORDS.c.interception_id.in_(page)))
            connection.execute(INTERCEPTIONS.delete().where(INTERCEPTIONS.c.id.in_(page)))
    # They are in the log, too. Somebody who reads just now keeps it for a while.
    with suppress(DatabaseError), engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
