import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect

from llmbridge.errors import ConfigurationError
from llmbridge.stores.opening import existing_store
from llmbridge.stores.sql import SqlStore
from llmbridge.stores.sql_migrations import VERSION
from tests.stores.conftest import sql, url_of
from tests.stores.kept import NOON, answered, asked

VERSION_1 = """
CREATE TABLE interceptions (
  id TEXT NOT NULL, started_at DATETIME NOT NULL, ended_at DATETIME, frontend TEXT NOT NULL, actor TEXT, client TEXT,
  session_id TEXT, provider TEXT, dialect TEXT, model TEXT, streaming BOOLEAN NOT NULL, status INTEGER, "end" TEXT,
  error_type TEXT, error TEXT, replayed BOOLEAN NOT NULL, fault TEXT, request_method TEXT NOT NULL,
  request_url TEXT NOT NULL, request_headers TEXT NOT NULL, request_caller TEXT NOT NULL, request_body BLOB NOT NULL,
  PRIMARY KEY (id)
);
CREATE TABLE records (
  seq INTEGER NOT NULL, interception_id TEXT NOT NULL, round INTEGER NOT NULL, provider TEXT NOT NULL,
  dialect TEXT NOT NULL, model TEXT, started_at DATETIME, head_s FLOAT, duration_s FLOAT, status INTEGER NOT NULL,
  "end" TEXT NOT NULL, error TEXT, redacted TEXT NOT NULL, replayed BOOLEAN NOT NULL, timed BOOLEAN NOT NULL,
  headers TEXT NOT NULL, body BLOB NOT NULL, timing TEXT NOT NULL, request_method TEXT, request_url TEXT,
  request_headers TEXT, request_caller TEXT, request_body BLOB,
  PRIMARY KEY (seq)
);
CREATE INDEX interceptions_by_start ON interceptions (started_at);
CREATE INDEX records_of ON records (interception_id, round);
PRAGMA user_version = 1;

INSERT INTO interceptions VALUES (
  'over', '2026-11-20 12:00:00.123456', NULL, 'direct', NULL, NULL, NULL, NULL, NULL, NULL, 0, 200, 'completed', NULL,
  NULL, 0, NULL, 'POST', 'http://localhost/v1/messages', '[["a","1"],["A","\\u0000\\ud800\\u00e9"]]',
  '{"frontend":"asgi","actor":"alice","client":"sdk","session_id":"s1","keyed":true}', X'00FF'
);
INSERT INTO interceptions VALUES (
  'open', '2026-11-20 12:00:09.123456', NULL, 'direct', NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL, NULL, NULL,
  NULL, 0, NULL, 'POST', 'http://localhost/v1/messages', '[["a","1"],["A","\\u0000\\ud800\\u00e9"]]',
  '{"frontend":"asgi","actor":"alice","client":"sdk","session_id":"s1","keyed":true}', X'00FF'
);
INSERT INTO records VALUES (
  1, 'over', 0, 'anthropic', 'anthropic.messages', NULL, '2026-11-20 12:00:00.123456', NULL, NULL, 200, 'completed',
  NULL, '[]', 0, 1, '[["x","y"],["x","z"]]', X'686900',
  '[[0.1,2],[0.30000000000000004,0],[0.3333333333333333,1]]', 'POST', 'http://localhost/v1/messages',
  '[["a","1"],["A","\\u0000\\ud800\\u00e9"]]',
  '{"frontend":"asgi","actor":"alice","client":"sdk","session_id":"s1","keyed":true}', X'00FF'
);
"""
"""A file as the first version made it, with a call that is over and one that its process left open."""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(VERSION_1)
    return path


def test_a_file_of_the_first_version_is_read_whole_and_written_on(old):
    store = SqlStore(url_of(old))
    store.add(answered("new"))
    store.end(asked("new", 60, end="completed"))
    store.flush()

    assert store.interceptions() == [
        asked("over", status=200, end="completed"),
        asked("open", 9, end="interrupted"),
        asked("new", 60, end="completed"),
    ]
    assert store.records() == [answered("over", started_at=NOON), answered("new")]
    store.close()


def test_an_older_file_gets_the_schema_that_a_new_one_has(old, tmp_path):
    new = tmp_path / "new.db"
    for path in (old, new):
        SqlStore(url_of(path)).close()

    assert _schema(old) == _schema(new)
    assert sql(old, "PRAGMA user_version") == [(VERSION,)]


def test_a_newer_file_is_refused_and_left_as_it_is(old):
    sql(old, "PRAGMA user_version = 99")
    before = _schema(old)

    with pytest.raises(
        ConfigurationError, match=rf"old\.db.* has schema 99, .* knows {VERSION}: update llmbridge"
    ):
        SqlStore(url_of(old))

    assert _schema(old) == before


def test_a_migration_that_fails_leaves_the_file_as_it_was(old):
    sql(old, "CREATE TABLE records_once (x)")  # in the way of an index
    before = _schema(old)

    with pytest.raises(ConfigurationError, match="cannot be opened"):
        SqlStore(url_of(old))

    assert (_schema(old), sql(old, "PRAGMA user_version")) == (before, [(1,)])


OPENED = """
import sys
from llmbridge.stores.sql import SqlStore
print(flush=True)
sys.stdin.readline()
SqlStore(sys.argv[1]).close()
"""


@pytest.mark.parametrize("made", ["old", "new"])
def test_processes_that_open_a_file_at_once_do_not_clash(old, tmp_path, made):
    url = url_of(tmp_path / f"{made}.db")

    open_at_once(url)

    assert len(existing_store(url).interceptions()) == (2 if made == "old" else 0)
    assert sql(tmp_path / f"{made}.db", "PRAGMA user_version") == [(VERSION,)]


def open_at_once(url: str) -> None:
    """Open a store in several processes, as nearly at the same moment as can be."""
    pipe, command = subprocess.PIPE, [sys.executable, "-c", OPENED, url]
    processes = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) for _ in range(4)]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
    assert [process.communicate()[1] for process in processes] == [b""] * 4


def _schema(path: Path) -> object:
    """The columns and indexes of each table, whatever the order they were added in."""
    engine = create_engine(url_of(path))
    found = inspect(engine)
    schema = {
        table: (
            sorted((each["name"], str(each["type"])) for each in found.get_columns(table)),
            sorted((str(each["name"]), each["column_names"]) for each in found.get_indexes(table)),
        )
        for table in found.get_table_names()
    }
    engine.dispose()
    return schema
