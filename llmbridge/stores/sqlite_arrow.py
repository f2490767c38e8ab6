"""A query to an SQLite file, as Arrow: run as a program, it reads with ADBC and writes an Arrow stream.

In a process of its own, and this is not for speed: ADBC brings an SQLite of its own, and when two of them in one process
have a file open, closing it in one drops the locks of the other, which can corrupt it.
Source: https://sqlite.org/howtocorrupt.html, "Multiple copies of SQLite linked into the same application".
"""

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any

BATCH_ROWS = 1 << 16


def main() -> None:
    """Read `{"path", "sql", "columns": {name: "text" | "count" | "real"}}` from standard input, write the stream."""
    # Without its DB-API module, which takes half a second to import.
    adbc: Any = import_module("adbc_driver_manager")
    driver: Any = import_module("adbc_driver_sqlite")
    pa: Any = import_module("pyarrow")
    asked: dict[str, Any] = json.load(sys.stdin)
    types = {"text": pa.large_string(), "count": pa.int64(), "real": pa.float64()}
    schema = pa.schema([(name, types[kind]) for name, kind in asked["columns"].items()])
    uri = f"file:{_escaped(asked['path'])}?mode=ro"
    with (
        driver.connect(uri) as database,
        adbc.AdbcConnection(database) as connection,
        pa.output_stream(sys.stdout.buffer) as out,
        pa.ipc.new_stream(out, schema) as stream,
    ):
        # The first to open a file that nobody has open locks it for a moment.
        list(_batches(connection, "PRAGMA busy_timeout = 10000"))
        first = 1
        for batch in _batches(connection, _typed(asked["sql"], asked["columns"])):
            rows = batch.slice(first)
            first = 0
            cells = [
                column.cast(field.type) for column, field in zip(rows.columns, schema, strict=True)
            ]
            stream.write_batch(pa.RecordBatch.from_arrays(cells, schema=schema))


def _batches(connection: Any, sql: str) -> Iterator[Any]:
    adbc: Any = import_module("adbc_driver_manager")
    pa: Any = import_module("pyarrow")
    with adbc.AdbcStatement(connection) as statement:
        statement.set_options(**{"adbc.sqlite.query.batch_rows": str(BATCH_ROWS)})
        statement.set_sql_query(sql)
        found, _ = statement.execute_query()
        with pa.RecordBatchReader._import_from_c(found.address) as reader:
            yield from reader


_EXAMPLES = {"text": "''", "count": "0", "real": "0.5"}


def _typed(sql: str, columns: dict[str, str]) -> str:
    """The query behind a row that has each type: ADBC believes the first rows, which may all be null."""
    row = ", ".join(_EXAMPLES[kind] for kind in columns.values())
    # The limit keeps the order, which SQLite may drop in a part of a union.
    return f"SELECT {row} UNION ALL SELECT * FROM ({sql} LIMIT -1)"


def _escaped(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")


if __name__ == "__main__":
    try:
        main()
    except Exception as error:  # noqa: BLE001  # the border: who started it tells it
        sys.exit(" ".join(str(error).split()))
