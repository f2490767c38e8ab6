import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from llmbridge.exchange.record import Store
from llmbridge.stores.memory import MemoryStore
from llmbridge.stores.opening import open_store

POSTGRES = pytest.param("postgres", marks=pytest.mark.xdist_group("postgres"))


@dataclass(frozen=True, slots=True)
class Where:
    """A database that has nothing in it yet: its URL, any statement to it, and what it finds wrong with itself."""

    url: str
    sql: Callable[[str], list[tuple[Any, ...]]]
    unsound: Callable[[], list[object]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "usage.db"


@pytest.fixture(params=["sqlite", POSTGRES])
def database(request: pytest.FixtureRequest, path: Path) -> Where:
    """Each database that a store can be in."""
    if request.param == "sqlite":
        return Where(
            url_of(path),
            lambda statement: sql(path, statement),
            lambda: [row for row in sql(path, "PRAGMA integrity_check") if row != ("ok",)],
        )
    place = request.getfixturevalue("postgres")
    return Where(place.url, place.sql, place.unsound)


@pytest.fixture(params=["memory", "sqlite", POSTGRES])
def store(request: pytest.FixtureRequest, path: Path) -> Iterator[Store]:
    """Each store that holds what it is given as it is."""
    if request.param == "memory":
        store: Store = MemoryStore()
    elif request.param == "sqlite":
        store = open_store(url_of(path))
    else:
        store = open_store(request.getfixturevalue("postgres").url)
    yield store
    store.close()


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


def sql(path: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()
