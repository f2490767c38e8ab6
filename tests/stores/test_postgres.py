import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from threading import Thread
from urllib.parse import quote

import psycopg
import pytest

from llmbridge import Bridge, Script, frames
from llmbridge.errors import ConfigurationError, StoreUnavailable
from llmbridge.frames.metrics import MeteredStore
from llmbridge.stores import sql_arrow, sql_digests
from llmbridge.stores.arrow import KEY
from llmbridge.stores.opening import existing_store
from llmbridge.stores.sql import SqlStore
from tests.stores.kept import NOON, answered, asked
from tests.stores.relay import Relay, relayed
from tests.stores.test_sql_migrations import open_at_once

pytestmark = pytest.mark.xdist_group("postgres")

END_SESSIONS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'llmbridge'"
)


@pytest.fixture
def relay(postgres) -> Iterator[Relay]:
    with relayed(postgres.folder) as relay:
        yield relay


@pytest.fixture
def url(postgres, relay) -> str:
    """The way to the server through the relay, with a password."""
    options = quote(f"-csearch_path={postgres.schema}")
    return (
        f"postgresql://postgres:se%2Fcret@127.0.0.1:{relay.port}/postgres"
        f"?options={options}&sslmode=disable&sslpassword=se/cret"
    )


async def test_a_lost_connection_is_made_again_without_a_word(postgres, url):
    store = SqlStore(url)
    await store.begin(asked("a"))
    postgres.sql(END_SESSIONS)

    await store.begin(asked("b", 1))

    assert [each.id for each in store.interceptions()] == ["a", "b"]
    assert [each.end for each in existing_store(url).interceptions()] == [None, None]
    store.close()


async def test_what_was_committed_unheard_is_there_once(relay, url):
    store = SqlStore(url)
    await store.begin(asked("a"))
    relay.cut_after = b"COMMIT"
    for number in range(3):
        store.add(answered("a", round=number))
    store.end(asked("a", end="completed"))

    store.flush()

    assert relay.cut_after is None
    assert store.records() == [answered("a", round=number) for number in range(3)]
    assert store.interceptions() == [asked("a", end="completed")]
    store.close()


@pytest.mark.skipif(
    os.name != "posix", reason="needs the signals of POSIX: run it on Linux or macOS"
)
async def test_a_crash_of_the_server_costs_no_row_and_doubles_none(postgres_server, postgres):
    store = SqlStore(postgres.url)
    ended = [asked(str(number), number, end="completed") for number in range(30)]
    for interception in ended[:20]:
        await store.begin(replace(interception, end=None))
        store.add(answered(interception.id))
        store.end(interception)

    with postgres_server.crashed():
        for interception in ended[20:]:
            store.add(answered(interception.id))
            store.end(interception)
        with pytest.raises(StoreUnavailable, match="cannot be written"):
            await store.begin(asked("refused"))
    store.flush()

    assert store.interceptions() == ended
    assert store.records() == [answered(each.id) for each in ended]
    store.close()


async def test_while_the_server_is_away_calls_are_refused_and_nothing_is_lost(relay, url, caplog):
    store = SqlStore(url)
    await store.begin(asked("a"))
    relay.disconnect()
    store.add(answered("a"))
    store.end(asked("a", end="completed"))

    with pytest.raises(
        StoreUnavailable, match=r"2 rows wait in memory: .*cannot be written: "
    ) as a:
        store.flush()
    with pytest.raises(StoreUnavailable, match=r"cannot be written: .*refused") as b:
        await store.begin(asked("b"))
    relay.connect()
    store.flush()

    assert (store.interceptions(), store.records()) == (
        [asked("a", end="completed")],
        [answered("a")],
    )
    assert "se/cret" not in f"{a.value} {b.value} {caplog.text} {store!r}"
    assert "se%2Fcret" not in f"{a.value} {b.value} {caplog.text} {store!r}"
    store.close()


def test_a_server_that_went_away_cannot_be_read_nor_pruned(relay, url):
    store = SqlStore(url)
    relay.disconnect()

    for asked_of in (
        store.interceptions,
        store.records,
        lambda: list(store),
        lambda: frames.interceptions(store),
        lambda: list(store.digests.batches("prompts", [], [])),
    ):
        with pytest.raises(StoreUnavailable, match=r"\*\*\*@.* cannot be read: .*refused"):
            asked_of()
    with pytest.raises(OSError, match="refused"):
        list(sql_arrow._many(store.engine, store.digests.query("prompts", [], []), KEY))
    with pytest.raises(StoreUnavailable, match=r"cannot be written: .*refused"):
        store.prune(NOON)

    store.close()


@pytest.mark.parametrize("wrapped", [str, MeteredStore], ids=["alone", "metered"])
def test_the_password_of_the_database_is_in_no_record(postgres, wrapped):
    url = postgres.url.replace("//postgres@", "//postgres:correct-horse-battery@")
    with Bridge(Script("It is correct-horse-battery."), store=wrapped(url)) as bridge:
        said = bridge.anthropic().messages.create(
            model="claude-x",
            max_tokens=9,
            messages=[{"role": "user", "content": "Is it correct-horse-battery?"}],
        )

    assert "correct-horse-battery" in said.model_dump_json()
    rows = postgres.sql("SELECT body, request_body FROM records")
    rows += postgres.sql("SELECT request_body, request_url FROM interceptions")
    assert len(rows) == 2
    assert "correct-horse" not in repr(rows)


def test_a_client_is_told_that_its_call_could_not_be_recorded(relay, url):
    with Bridge(Script("Hi"), store=url) as bridge:
        relay.disconnect()
        response = bridge.transport().handle_request(_request())
        relay.connect()

    assert response.status_code == 503


def test_a_server_that_is_not_there_is_told_without_the_password(relay, url):
    relay.disconnect()

    for opened in (SqlStore, existing_store):
        with pytest.raises(ConfigurationError, match=r"cannot be opened: .*refused") as told:
            opened(url)
        assert "se/cret" not in str(told.value)
        assert "postgres:***@127.0.0.1" in str(told.value)


async def test_a_locked_table_refuses_calls_and_loses_nothing(postgres):
    store = SqlStore(postgres.url + quote(" -clock_timeout=100"))
    await store.begin(asked("a"))
    with postgres.connect() as other, other.transaction():
        other.execute("LOCK TABLE interceptions, records")
        store.add(answered("a"))
        with pytest.raises(StoreUnavailable, match="lock timeout"):
            await store.begin(asked("b"))
        assert store.pending == 1

    store.flush()

    assert (store.records(), store.interceptions()) == ([answered("a")], [asked("a")])
    store.close()


async def test_a_full_disk_refuses_calls_and_loses_nothing(postgres):
    store = SqlStore(postgres.url)
    await store.begin(asked("a"))
    postgres.sql("""
        CREATE FUNCTION full_disk() RETURNS trigger AS $$ BEGIN
          RAISE 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';
        END $$ LANGUAGE plpgsql;
        CREATE TRIGGER full_disk BEFORE INSERT ON records EXECUTE FUNCTION full_disk()
    """)
    store.add(answered("a"))

    with pytest.raises(StoreUnavailable, match=r"1 rows wait in memory: .*No space left on device"):
        store.flush()
    postgres.sql("DROP TRIGGER full_disk ON records")
    store.flush()

    assert store.records() == [answered("a")]
    store.close()


async def test_who_may_only_read_reads(postgres):
    store, dead = SqlStore(postgres.url), SqlStore(postgres.url)
    store.add(answered("a"))
    store.end(asked("a", end="completed"))
    store.flush()
    await dead.begin(asked("b", 1))
    dead.close()
    postgres.sql(f"""
        CREATE ROLE analyst LOGIN;
        GRANT USAGE ON SCHEMA {postgres.schema} TO analyst;
        GRANT SELECT ON ALL TABLES IN SCHEMA {postgres.schema} TO analyst
    """)

    url = postgres.url.replace("//postgres@", "//analyst@")
    read = existing_store(url)
    frame = frames.interceptions(url)

    assert [each.end for each in read.interceptions()] == ["completed", None]
    assert frame["end"].tolist()[0] == "completed"
    postgres.sql("DROP OWNED BY analyst; DROP ROLE analyst")
    store.close()


async def test_a_server_that_only_reads_refuses_calls_and_loses_nothing(postgres):
    store = SqlStore(postgres.url)
    await store.begin(asked("a"))
    with postgres.connect() as other:
        other.execute("ALTER ROLE postgres SET default_transaction_read_only = on")
        try:
            other.execute(END_SESSIONS)
            store.add(answered("a"))
            with pytest.raises(StoreUnavailable, match=r"1 rows wait .*read-only transaction"):
                store.flush()
            with pytest.raises(StoreUnavailable, match="read-only transaction"):
                await store.begin(asked("b"))
        finally:
            other.execute("ALTER ROLE postgres RESET default_transaction_read_only")
        other.execute(END_SESSIONS)

    store.flush()

    assert (store.records(), store.interceptions()) == ([answered("a")], [asked("a")])
    store.close()


def test_a_row_that_cannot_be_is_left_out_with_a_word_and_no_other(postgres, caplog):
    store = SqlStore(postgres.url)
    for number in (200, 10**12, 404):
        store.end(asked(str(number), status=number))

    with caplog.at_level(logging.ERROR):
        store.flush()

    assert {each.status for each in store.interceptions()} == {200, 404}
    assert [record.getMessage() for record in caplog.records] == [
        f"{asked(str(10**12), status=10**12)!r} cannot be stored"
    ]
    store.close()


async def test_many_bridges_write_at_the_same_time(postgres):
    stores = [SqlStore(postgres.url) for _ in range(3)]
    for number in range(30):
        for bridge, store in enumerate(stores):
            id = f"{bridge}-{number}"
            await store.begin(asked(id))
            store.add(answered(id))
            store.end(asked(id, end="completed"))
    for store in stores:
        store.close()

    kept = existing_store(postgres.url)

    assert [each.end for each in kept.interceptions()] == ["completed"] * 90
    assert len({each.interception_id for each in kept}) == 90


def test_processes_that_open_a_new_database_at_once_do_not_clash(postgres):
    open_at_once(postgres.url)

    assert existing_store(postgres.url).interceptions() == []


def test_a_newer_schema_is_refused(postgres):
    SqlStore(postgres.url).close()
    postgres.sql("INSERT INTO llmbridge_schema VALUES (99)")

    with pytest.raises(ConfigurationError, match=r"has schema 99.*update llmbridge"):
        SqlStore(postgres.url)


def test_another_programs_tables_are_left_alone(postgres):
    postgres.sql("CREATE TABLE records (x integer)")

    with pytest.raises(ConfigurationError, match="has a table 'records' of another program"):
        SqlStore(postgres.url)


def test_a_store_that_is_not_there_is_not_made_by_reading(postgres):
    with pytest.raises(ConfigurationError, match="there is no store at 'postgresql://"):
        existing_store(postgres.url)

    assert postgres.sql("SELECT * FROM pg_tables WHERE schemaname = current_schema") == []


def test_times_are_utc_in_whatever_zone_a_session_is(postgres):
    store = SqlStore(postgres.url + quote(" -ctimezone=Asia/Tokyo"))
    store.end(asked("a", ended_at=datetime(2026, 11, 20, 13), end="completed"))  # noqa: DTZ001  # UTC
    store.flush()

    (kept,) = store.interceptions(started_at=NOON)

    assert (kept.started_at, kept.ended_at) == (NOON, NOON.replace(hour=13, microsecond=0))
    assert str(kept.started_at) == "2026-11-20 12:00:00.123456+00:00"
    assert store.prune(NOON + timedelta(days=1)) == 1
    store.close()


def test_without_psycopg_it_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)

    with pytest.raises(ConfigurationError, match=r"pip install 'llmbridge\[postgres\]'"):
        SqlStore("postgresql://u:secret@h/d")


async def test_a_call_that_is_just_deleted_gets_no_digest_any_more(postgres):
    store, call = SqlStore(postgres.url), asked("a", end="completed")
    await store.begin(call)
    with psycopg.connect(postgres.url) as other:
        other.execute("DELETE FROM interceptions")
        store._digest(call, [])
        flushing = Thread(target=store.flush)
        flushing.start()
        flushing.join(0.3)
        other.commit()
    flushing.join()

    assert postgres.sql("SELECT interception_id FROM summaries") == []
    store.close()


async def test_what_is_deleted_goes_with_the_digest_that_is_just_written(postgres):
    store, call = SqlStore(postgres.url), asked("a", end="completed")
    await store.begin(call)
    store.end(call)
    store.flush()
    pruning = Thread(target=store.prune, args=(NOON + timedelta(days=1),))
    with store.engine.begin() as connection:
        sql_digests.write(connection, [sql_digests.digest(call, [])])
        pruning.start()
        pruning.join(0.3)
    pruning.join()

    assert postgres.sql("SELECT interception_id FROM summaries") == []
    store.close()


def _request():
    import httpx2

    body = b'{"model": "claude-x", "max_tokens": 9, "messages": []}'
    return httpx2.Request("POST", "http://localhost/v1/messages", content=body)
