"""What calls took, summed by the database: budgets of several bridges ask for it again and again."""

from collections.abc import Iterator
from datetime import date, datetime

from sqlalchemy import Engine, and_, exists, func, or_, select

from llmbridge.exchange.spending import Spent, spent_in
from llmbridge.stores.sql_digests import TABLES, UNDIGESTED
from llmbridge.stores.sql_rows import record_of
from llmbridge.stores.sql_schema import INTERCEPTIONS, RECORDS
from llmbridge.wire.opaque import OPAQUE

_PARTS = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens")


def spent_since(engine: Engine, since: datetime) -> Iterator[Spent]:
    """What the calls that began since then took, as their answers say; recordings took nothing."""
    yield from _digested(engine, since)
    yield from _undigested(engine, since)


def _digested(engine: Engine, since: datetime) -> Iterator[Spent]:
    usage, told = TABLES["token_usage"], TABLES["interceptions"]
    same = and_(
        usage.c.begun_at == told.c.begun_at, usage.c.interception_id == told.c.interception_id
    )
    # What was made before, such as a stored response, may be looked up without end.
    read = told.c.dialect != OPAQUE.name
    made = exists().where(
        INTERCEPTIONS.c.id == told.c.interception_id, INTERCEPTIONS.c.request_method == "POST"
    )
    whose = (told.c.actor, told.c.asked_model, func.date(usage.c.begun_at))
    parts = (usage.c[name] for name in _PARTS)
    tokens = func.coalesce(usage.c.total_tokens, sum(func.coalesce(part, 0) for part in parts))
    sums = (func.sum(tokens), func.sum(usage.c.cost_usd))
    query = (
        select(*whose, *sums)
        .join(told, same)
        .where(usage.c.begun_at >= since, told.c.replayed.is_not(True), or_(read, made))
        .group_by(*whose)
    )
    with engine.connect() as connection:
        for actor, model, day, tokens, usd in connection.execute(query):
            # SQLite has no type for a day.
            begun = day if isinstance(day, date) else date.fromisoformat(day)
            yield Spent(actor or "", model or "", begun, int(tokens or 0), float(usd or 0))


def _undigested(engine: Engine, since: datetime) -> Iterator[Spent]:
    """The rounds so far of calls that are under way, or have just ended."""
    query = (
        select(INTERCEPTIONS.c.actor, INTERCEPTIONS.c.model, RECORDS)
        .join(INTERCEPTIONS, INTERCEPTIONS.c.id == RECORDS.c.interception_id)
        .join(UNDIGESTED, UNDIGESTED.c.interception_id == RECORDS.c.interception_id)
        .where(INTERCEPTIONS.c.started_at >= since, RECORDS.c.replayed.is_not(True))
    )
    with engine.connect() as connection:
        for row in connection.execute(query).mappings():
            record = record_of({column.name: row[column] for column in RECORDS.c})
            found = spent_in(
                record, row[INTERCEPTIONS.c.actor] or "", row[INTERCEPTIONS.c.model] or ""
            )
            if found is not None:
                yield found.told
