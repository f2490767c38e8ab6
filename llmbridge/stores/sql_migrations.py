"""The versions of the schema of a SQL store, and the steps from one to the next.

Plain SQL that both databases understand: two tables need no migration tool, and what is here is all that will ever run.
"""

from typing import Protocol

from sqlalchemy import Connection

from llmbridge.errors import ConfigurationError
from llmbridge.stores.sql_schema import METADATA

STEPS: tuple[tuple[str, ...], ...] = (
    # To 2: which bridge has written a row, and which of its records it is.
    (
        "ALTER TABLE interceptions ADD COLUMN bridge BIGINT",
        'CREATE INDEX interceptions_under_way ON interceptions (bridge) WHERE "end" IS NULL',
        "ALTER TABLE records ADD COLUMN bridge BIGINT",
        "ALTER TABLE records ADD COLUMN number BIGINT",
        "CREATE UNIQUE INDEX records_once ON records (bridge, number)",
    ),
    # To 3: which key was used.
    ("ALTER TABLE records ADD COLUMN key_hint TEXT",),
    # To 4: what the tools of the bridge did.
    ("ALTER TABLE interceptions ADD COLUMN tool_runs TEXT",),
)
"""From version 1 upwards; a step that was released never changes."""

VERSION = 1 + len(STEPS)
"""Of `METADATA`, which a new database gets at once."""


class Versioned(Protocol):
    """A database that says which version its schema has."""

    def version(self, connection: Connection) -> int:
        """The version, 0 where there is nothing yet; refuses another program's database."""
        ...

    def keep_version(self, connection: Connection, version: int) -> None:
        """Say it from now on."""
        ...


def migrate(connection: Connection, database: Versioned, name: str) -> None:
    """Bring the schema to this version, inside a transaction that no other migration overlaps.

    Raises:
        ConfigurationError: a newer llmbridge has written it, or it is somebody else's.
    """
    found = database.version(connection)
    if found == VERSION:
        return
    if found > VERSION:
        raise ConfigurationError(
            f"store={name!r} has schema {found}, and this llmbridge knows {VERSION}: update llmbridge"
        )
    if found == 0:
        METADATA.create_all(connection)
    else:
        for step in STEPS[found - 1 :]:
            for statement in step:
                connection.exec_driver_sql(statement)
    database.keep_version(connection, VERSION)
