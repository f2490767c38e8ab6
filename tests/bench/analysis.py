"""What frames of a large database take, beside pandas' own way to read it row by row."""

import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import anyio
import pandas as pd

from llmbridge import frames
from llmbridge.frames.dataset import export
from llmbridge.stores.sql import SqlStore
from tests.bench.table import Plan, Table
from tests.samples import asked, ended, keep, record

MILLION = 1_000_000
KINDS = (
    ("anthropic.messages", "thinking_tool_call.sse"),
    ("openai.chat", "text.sse"),
    ("openai.responses", "text.sse"),
    ("anthropic.messages", "text.sse"),
)
TIMES = ("begun_at", "started_at", "ended_at", "recorded_at")
FRAMES = ("interceptions", "token_usage")


def analysis(plan: Plan) -> Table:
    """Frames of calls, 20 s apart, until they are in pandas: wall time, for a million of them."""
    count = MILLION if plan.seconds >= 0.5 else MILLION // 10
    some = count // 20
    with _database(count) as path:
        url, to = f"sqlite:///{path}", path.parent / "to"
        export(url, to, only=FRAMES)
        works: dict[str, tuple[str, int, Callable[[], object]]] = {
            "read_sql": ("whole frame", some, lambda: _by_rows(path, some)),
            "SQLite": ("whole frame", count, lambda: frames.interceptions(url)),
            "Parquet": ("whole frame", count, lambda: frames.interceptions(to)),
        }
        figures = {name: {what: _million_s(w, n, plan)} for name, (what, n, w) in works.items()}
        for name, source in (("SQLite", url), ("Parquet", to)):
            figures[name] |= _more(source, count, plan)
    note = (
        f"{count:,} calls; read_sql reads {some:,} of them. Whole frames have 35 columns. Goal: about a"
        " second for a million. SQLite is read by processes that take some 0.2 s to start, few calls or many."
    )
    return Table("Frames, s a million calls", figures, baseline="read_sql", note=note)


def exporting(plan: Plan) -> Table:
    """Rows of two frames from SQLite to Parquet, beside pandas: rows a second."""
    count = MILLION if plan.seconds >= 0.5 else MILLION // 10
    some = count // 20
    with _database(count) as path:
        url, to = f"sqlite:///{path}", path.parent / "to"
        began = time.perf_counter()
        rows = sum(export(url, to, only=FRAMES).values())
        ours = rows / (time.perf_counter() - began)
        began = time.perf_counter()
        _by_rows(path, some).to_parquet(path.parent / "pandas.parquet")
        theirs = some / (time.perf_counter() - began)
    figures = {"read_sql + to_parquet": {"rows/s": theirs}, "export": {"rows/s": ours}}
    return Table("Export", figures, baseline="read_sql + to_parquet")


def _more(source: str | Path, count: int, plan: Plan) -> dict[str, float]:
    works: dict[str, Callable[[], object]] = {
        "two columns": lambda: frames.interceptions(source, columns=["model", "cost_usd"]),
        "usage by model, day": lambda: frames.usage_by(source, ["model", "day"]),
        "one actor of 200": lambda: frames.interceptions(source, actor="a1_7"),
    }
    return {name: _million_s(work, count, plan) for name, work in works.items()}


def _million_s(work: Callable[[], object], count: int, plan: Plan) -> float:
    seen: list[float] = []
    for _ in range(plan.rounds):
        began = time.perf_counter()
        work()
        seen.append((time.perf_counter() - began) * MILLION / count)
    return statistics.median(seen)


def _by_rows(path: Path, count: int) -> pd.DataFrame:
    with closing(sqlite3.connect(path)) as connection:
        return pd.read_sql(f"SELECT * FROM summaries ORDER BY begun_at LIMIT {count}", connection)


@contextmanager
def _database(count: int) -> Iterator[Path]:
    """Four calls that a store has digested, and copies of their rows at other times, with other ids and actors."""
    with tempfile.TemporaryDirectory(prefix="llmbridge-bench-") as folder:
        path = Path(folder) / "usage.db"
        store = SqlStore(f"sqlite:///{path}")
        anyio.run(_fill, store)
        store.close()
        with closing(sqlite3.connect(path)) as connection:
            for table in ("summaries", "token_usage"):
                _copy(connection, table, count // len(KINDS) - 1)
            connection.commit()
        yield path


async def _fill(store: SqlStore) -> None:
    for number, (dialect, name) in enumerate(KINDS):
        call = asked(f"c{number}", number, actor=f"a{number}")
        await keep(store, ended(call), record(dialect, name))


def _copy(connection: sqlite3.Connection, table: str, times: int) -> None:
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    cells = ", ".join(map(_changed, columns))
    connection.execute(f"CREATE TEMP TABLE few AS SELECT * FROM {table}")
    connection.execute(
        f"""WITH RECURSIVE copies(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM copies WHERE i < {times})
            INSERT INTO {table} SELECT {cells} FROM copies, few ORDER BY i"""
    )
    connection.execute("DROP TABLE few")


def _changed(column: str) -> str:
    if column in TIMES:
        moved = f"julianday({column}) + i * 20.0 / 86400"
        return f"strftime('%Y-%m-%d %H:%M:%f', {moved}) || '000'"
    if column == "interception_id":
        return "interception_id || printf('_%024x', i * 7919)"
    return "actor || '_' || (i % 50)" if column == "actor" else f'"{column}"'
