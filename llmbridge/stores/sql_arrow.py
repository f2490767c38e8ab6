"""Rows of a SQL store as Arrow, however many there are."""

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from importlib import import_module
from typing import Any

from sqlalchemy import Engine, Select, func
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql import ColumnElement

from llmbridge.canon.strict_json import mend_surrogates
from llmbridge.errors import StoreUnavailable
from llmbridge.exchange.columns import Column, Dtype
from llmbridge.stores import sqlite_arrow
from llmbridge.stores.arrow import UTC, pa, schema_of
from llmbridge.stores.sql_schema import unescaped

_logger = logging.getLogger(__name__)

FEW = 20_000
"""So many rows are read faster one by one than by a process that has to start."""

_MOST_PARTS = 4
_IN_SQLITE: dict[Dtype, str] = {
    "str": "text",
    "Int64": "count",
    "float64": "real",
    "Float64": "real",
    "boolean": "count",
    "datetime64[us, UTC]": "text",
}


def sql_of(query: Select[Any], engine: Engine) -> str:
    """The query with its values in it, as the database takes it from any client."""
    # Not the driver's own style, which would double every percent sign.
    dialect = (postgresql if _is_postgres(engine) else sqlite).dialect(paramstyle="qmark")
    return str(query.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))


def read(
    engine: Engine, query: Select[Any], columns: Sequence[Column], by: ColumnElement[datetime]
) -> Any:
    """The rows of a query as an Arrow table; `by`, which its order begins with, is where it may be cut."""
    count = _count(engine, query)
    if count <= FEW:
        return pa.Table.from_batches(_one_by_one(engine, query, columns), schema_of(columns))
    parts = [query] if _is_postgres(engine) else _parts(engine, query, by, count)

    def whole(part: Select[Any]) -> list[Any]:
        return list(_many(engine, part, columns))

    with ThreadPoolExecutor(len(parts)) as pool:
        read = pool.map(whole, parts)
        return pa.Table.from_batches([b for found in read for b in found], schema_of(columns))


def batches(engine: Engine, query: Select[Any], columns: Sequence[Column]) -> Generator[Any]:
    """The rows of a query as Arrow record batches, in their order, as they come."""
    few = _count(engine, query) <= FEW
    yield from (_one_by_one if few else _many)(engine, query, columns)


def _many(engine: Engine, query: Select[Any], columns: Sequence[Column]) -> Generator[Any]:
    raw = _of_postgres if _is_postgres(engine) else _of_sqlite
    for batch in raw(engine, query, columns):
        yield _fitted(batch, columns)


def _count(engine: Engine, query: Select[Any]) -> int:
    with engine.connect() as connection:
        found = query.order_by(None).with_only_columns(func.count(), maintain_column_froms=True)
        return connection.execute(found).scalar_one()


def _parts(
    engine: Engine, query: Select[Any], by: ColumnElement[datetime], count: int
) -> list[Select[Any]]:
    """The same rows in several queries of about as many rows."""
    number = min(_MOST_PARTS, os.cpu_count() or 1)
    starts = query.with_only_columns(by, maintain_column_froms=True)
    with engine.connect() as connection:
        borders = [
            connection.execute(starts.limit(1).offset(count * part // number)).scalar_one_or_none()
            for part in range(1, number)
        ]
    inner = sorted({border for border in borders if border is not None})
    return [
        query.where(*([by >= low] if low else []), *([by < high] if high else []))
        for low, high in zip([None, *inner], [*inner, None], strict=True)
    ]


def _is_postgres(engine: Engine) -> bool:
    return engine.dialect.name == "postgresql"


def _one_by_one(engine: Engine, query: Select[Any], columns: Sequence[Column]) -> Iterator[Any]:
    schema = schema_of(columns)
    with engine.connect() as connection:
        rows = connection.execution_options(yield_per=FEW).execute(query)
        for page in rows.partitions():
            cells = zip(*page, strict=True)
            arrays = [
                pa.array([_mended(cell) for cell in cell_of], field.type)
                for cell_of, field in zip(cells, schema, strict=True)
            ]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _of_postgres(engine: Engine, query: Select[Any], columns: Sequence[Column]) -> Iterator[Any]:
    try:
        adbc: Any = import_module("adbc_driver_postgresql.dbapi")
    except ImportError:
        yield from _one_by_one(engine, query, columns)
        return
    url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    try:
        with adbc.connect(url) as connection, connection.cursor() as cursor:
            cursor.execute(sql_of(query, engine))
            yield from cursor.fetch_record_batch()
    except adbc.Error as error:
        raise OSError(str(error)) from error


def _of_sqlite(engine: Engine, query: Select[Any], columns: Sequence[Column]) -> Iterator[Any]:
    asked = {
        "path": engine.url.database,
        "sql": sql_of(query, engine),
        "columns": {column.name: _IN_SQLITE[column.dtype] for column in columns},
    }
    with subprocess.Popen(
        # A script's folder is not to be searched for modules: ours has names of others in it.
        [sys.executable, "-P", sqlite_arrow.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            process.stdin.write(json.dumps(asked).encode())
            process.stdin.close()
            with pa.ipc.open_stream(process.stdout) as stream:
                yield from stream
            if process.wait():
                # A stream may just stop.
                raise OSError("its reader broke off")
        except (OSError, pa.ArrowException) as error:
            process.stdout.close()
            why = process.stderr.read().decode(errors="replace").strip() or str(error)
            raise StoreUnavailable(f"{engine.url.database!r} cannot be read: {why}") from error
        finally:
            process.kill()


def _fitted(batch: Any, columns: Sequence[Column]) -> Any:
    """What databases have as text or as numbers, in the types of the frame."""
    schema = schema_of(columns)
    cells = [_column(cell, field.type) for cell, field in zip(batch.columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(cells, schema=schema)


def _column(cells: Any, kind: Any) -> Any:
    if kind == UTC:
        return (
            cells.cast(pa.timestamp("us")).cast(UTC) if not _zoned(cells.type) else cells.cast(UTC)
        )
    cells = cells.cast(kind)
    if kind == pa.large_string() and _escapes(cells):
        return pa.array([_mended(text) for text in map(unescaped, cells.to_pylist())], kind)
    return cells


def _zoned(kind: Any) -> bool:
    return pa.types.is_timestamp(kind) and kind.tz is not None


def _escapes(texts: Any) -> bool:
    """True where some text may be escaped: that of all of them lies in one piece."""
    data = texts.buffers()[2]
    return data is not None and re.search(b"\x1a", data) is not None


def _mended(cell: Any) -> Any:
    return mend_surrogates(cell) if isinstance(cell, str) and not cell.isascii() else cell
