import json
import os
import stat
from dataclasses import replace
from threading import Barrier, Thread

import pytest

from llmbridge.errors import CassetteError, ConfigurationError
from llmbridge.exchange.record import Interception, Store
from llmbridge.stores.cassette import Cassette
from llmbridge.stores.cassette_write import dump
from tests.stores.recordings import ASKED, NOON, STREAMED


def test_saves_and_loads(tmp_path):
    path = tmp_path / "deep" / "session.yaml"

    Cassette(path, [STREAMED]).save()

    assert list(Cassette.load(path)) == [STREAMED]
    assert list(Cassette.load(str(path))) == [STREAMED]


def test_json_where_the_name_says_so(tmp_path):
    path = tmp_path / "session.json"

    Cassette(path, [STREAMED]).save()

    assert json.loads(path.read_text())["version"] == 1
    assert list(Cassette.load(path)) == [replace(STREAMED, interception_id="session.json#0")]


def test_json_cannot_hold_bytes(tmp_path):
    cassette = Cassette(tmp_path / "x.json", [replace(STREAMED, chunks=((0.1, b"\xff"),))])

    with pytest.raises(CassetteError, match=r"save as \.yaml"):
        cassette.save()

    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_all_its_files_in_order(tmp_path):
    for name in ("b.yaml", "a/z.json", "a.yml", "a/.hidden.yaml.tmp", "notes.txt"):
        Cassette(tmp_path / name, [STREAMED]).save()

    assert [record.interception_id for record in Cassette.load(tmp_path)] == [
        "a/z.json#0",
        "a.yml#0",
        "b.yaml#0",
    ]


def test_saves_elsewhere_without_touching_its_own_file(tmp_path):
    own, other = tmp_path / "own.yaml", tmp_path / "other.json"
    Cassette(own, [STREAMED]).save()
    before = own.read_bytes()

    cassette = Cassette.load(own)
    cassette.add(STREAMED)
    cassette.save(other)

    assert own.read_bytes() == before
    assert len(Cassette.load(other)) == 2


@pytest.mark.parametrize("begin", ["folder", "nowhere"])
def test_what_has_no_file_of_its_own_must_be_told_one(begin, tmp_path):
    Cassette(tmp_path / "a.yaml", [STREAMED]).save()
    cassette = Cassette.load(tmp_path) if begin == "folder" else Cassette()
    cassette.add(STREAMED)

    with pytest.raises(CassetteError, match="name"):
        cassette.flush()


@pytest.mark.parametrize("what", ["missing.yaml", "."])
def test_nothing_to_load_is_an_error(what, tmp_path):
    with pytest.raises(CassetteError, match=r"no .*(cassette|below)"):
        Cassette.load(tmp_path / what)


def test_open_begins_a_file_or_goes_on_with_it(tmp_path):
    path = tmp_path / "session.yaml"
    for _ in range(2):
        cassette = Cassette.open(path)
        cassette.add(STREAMED)
        cassette.close()

    assert [record.interception_id for record in Cassette.load(path)] == [
        "session.yaml#0",
        "session.yaml#1",
    ]


def test_a_torn_file_is_an_error_also_when_it_is_to_be_gone_on_with(tmp_path):
    path = tmp_path / "session.yaml"
    path.write_text(dump([STREAMED])[:200])

    with pytest.raises(CassetteError, match=r"session\.yaml"):
        Cassette.open(path)


def test_is_readable_by_its_owner_alone(tmp_path):
    path = tmp_path / "session.yaml"
    path.touch(0o644)

    Cassette(path, [STREAMED]).save()

    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_writes_through_a_link(tmp_path):
    real, link = tmp_path / "real.yaml", tmp_path / "link.yaml"
    real.write_text(dump([]))
    link.symlink_to(real)

    with_one = Cassette.open(link)
    with_one.add(STREAMED)
    with_one.flush()

    assert link.is_symlink()
    assert len(Cassette.load(real)) == 1


def test_flush_without_anything_new_touches_nothing(tmp_path):
    path = tmp_path / "session.yaml"
    Cassette(path, [STREAMED]).save()
    os.utime(path, ns=(1, 1))

    cassette = Cassette.load(path)
    cassette.flush()
    cassette.close()
    Cassette(tmp_path / "never.yaml").close()

    assert path.stat().st_mtime_ns == 1
    assert [each.name for each in tmp_path.iterdir()] == ["session.yaml"]


def test_a_file_that_somebody_else_changed_is_not_overwritten(tmp_path):
    path = tmp_path / "session.yaml"
    first, second = Cassette.open(path), Cassette.open(path)
    first.add(STREAMED)
    second.add(replace(STREAMED, status=500))

    first.flush()
    with pytest.raises(CassetteError, match=r"session\.yaml.*changed by somebody else"):
        second.flush()

    assert list(Cassette.load(path)) == [STREAMED]
    assert [each.name for each in tmp_path.iterdir()] == ["session.yaml"]


def test_of_many_that_record_the_same_name_one_wins_whole(tmp_path):
    path = tmp_path / "session.yaml"
    cassettes = [Cassette(path, [replace(STREAMED, status=200 + i)] * 50) for i in range(8)]
    barrier, refused = Barrier(8), list[CassetteError]()

    def flush(cassette: Cassette) -> None:
        barrier.wait()
        try:
            cassette.flush()
        except CassetteError as error:
            refused.append(error)

    threads = [Thread(target=flush, args=(cassette,)) for cassette in cassettes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    written = list(Cassette.load(path))
    assert len(refused) == 7
    assert len({record.status for record in written}) == 1
    assert len(written) == 50


def test_a_failed_write_leaves_the_old_file_and_can_be_repeated(tmp_path, monkeypatch):
    path = tmp_path / "session.yaml"
    Cassette(path, [STREAMED]).save()
    cassette = Cassette.load(path)
    cassette.add(STREAMED)

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(CassetteError, match=r"session\.yaml.*cannot be written: No space left"):
            cassette.flush()
    after_failing = list(Cassette.load(path))
    cassette.flush()

    assert after_failing == [STREAMED]
    assert len(Cassette.load(path)) == 2
    assert [each.name for each in tmp_path.iterdir()] == ["session.yaml"]


def test_never_writes_more_than_it_would_read(tmp_path, monkeypatch):
    path = tmp_path / "session.yaml"
    Cassette(path, [STREAMED]).save()
    monkeypatch.setattr("llmbridge.stores.cassette.LIMIT_BYTES", 1000)
    cassette = Cassette.load(path)
    cassette.add(STREAMED)

    with pytest.raises(CassetteError, match=r"session\.yaml.*record into more files"):
        cassette.flush()

    assert list(Cassette.load(path)) == [STREAMED]


def test_adding_while_another_thread_writes(tmp_path):
    path = tmp_path / "session.yaml"
    cassette = Cassette.open(path)

    def add() -> None:
        for _ in range(40):
            cassette.add(STREAMED)
            cassette.flush()

    threads = [Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(Cassette.load(path)) == 160


async def test_keeps_interceptions_in_memory(tmp_path):
    store: Store = Cassette(tmp_path / "session.yaml")
    begun = Interception("i", NOON, ASKED)

    await store.begin(begun)
    store.end(replace(begun, end="completed"))
    store.add(replace(STREAMED, interception_id="i"))

    assert store.interceptions(id="i") == [replace(begun, end="completed")]
    assert store.interceptions(id="j") == []
    assert store.records(interception_id="i", status=200) == list(store)


def test_an_unknown_filter_is_told(tmp_path):
    with pytest.raises(ConfigurationError, match="no filter 'statsu'"):
        Cassette(records=[STREAMED]).records(statsu=200)


def test_says_what_it_holds():
    assert bool(Cassette())
    assert repr(Cassette("a.yaml", [STREAMED])) == "Cassette('a.yaml', 1 records)"
    assert repr(Cassette()) == "Cassette(0 records)"
