import json
import os
import re
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from shutil import copyfile
from threading import Barrier, Event, Thread
from threading import enumerate as enumerate_threads

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


def test_ascii_where_it_is_asked_for(tmp_path):
    path = tmp_path / "session.yaml"
    record = replace(STREAMED, chunks=((0.5, "é🙂".encode()),))

    Cassette(path, [record], ascii=True).save()
    again = Cassette.open(path, ascii=True)
    again.add(record)
    again.close()

    assert path.read_bytes().isascii()
    assert [each.body for each in Cassette.load(path)] == [record.body, record.body]


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
    for name in ("b.yaml", "a/z.json", "a.yml"):
        Cassette(tmp_path / name, [STREAMED]).save()
    for name in ("a/.hidden.yaml.tmp", "notes.txt"):
        copyfile(tmp_path / "b.yaml", tmp_path / name)

    assert [record.interception_id for record in Cassette.load(tmp_path)] == [
        "a/z.json#0",
        "a.yml#0",
        "b.yaml#0",
    ]


@pytest.mark.parametrize("name", ["x.txt", "noext", "x.sse"])
@pytest.mark.parametrize("begin", [Cassette, Cassette.open, lambda path: Cassette(path, [])])
def test_a_file_that_a_replay_of_its_folder_would_not_find_is_not_begun(begin, name, tmp_path):
    path = tmp_path / name

    with pytest.raises(CassetteError, match=re.escape(f"ends in .yaml, .yml, .json: give '{path}")):
        begin(path)


def test_what_such_a_file_holds_is_read_and_not_added_to(tmp_path):
    named, plain = tmp_path / "a.yaml", tmp_path / "noext"
    Cassette(named, [STREAMED]).save()
    named.rename(plain)
    cassette = Cassette(plain)
    cassette.add(STREAMED)

    with pytest.raises(CassetteError, match=r"noext' cannot be written: recordings go into"):
        cassette.close()

    assert len(Cassette.load(plain)) == 1


def test_saves_elsewhere_without_touching_its_own_file(tmp_path):
    own, other = tmp_path / "own.yaml", tmp_path / "other.json"
    Cassette(own, [STREAMED]).save()
    before, inode = own.read_bytes(), own.stat().st_ino

    Cassette.load(own).save(other)

    assert own.read_bytes() == before
    assert own.stat().st_ino == inode
    assert len(Cassette.load(other)) == 1


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


def test_a_file_that_somebody_else_changed_stays_and_what_was_recorded_is_kept_beside_it(tmp_path):
    path, aside = tmp_path / "session.yaml", tmp_path / f"session.{os.getpid()}.yaml"
    first, second = Cassette.open(path), Cassette.open(path)
    other = replace(STREAMED, status=500)

    first.add(STREAMED)
    first.flush()
    second.add(other)
    with pytest.raises(CassetteError, match=rf"session\.yaml.*somebody else.*{aside.name}"):
        second.flush()
    second.add(other)
    with pytest.raises(CassetteError, match=aside.name):
        second.close()

    assert list(Cassette.load(path)) == [STREAMED]
    assert [record.status for record in Cassette.load(aside)] == [500, 500]
    assert sorted(each.name for each in tmp_path.iterdir()) == [aside.name, path.name]


def test_what_is_kept_aside_is_no_part_of_the_folder(tmp_path):
    for name in ("a.yaml", "a.4242.yaml", "a.4242-2.yaml", "b.4242.yaml"):
        Cassette(tmp_path / name, [STREAMED]).save()

    assert [record.interception_id for record in Cassette.load(tmp_path)] == [
        "a.yaml#0",
        "b.4242.yaml#0",
    ]


def test_nothing_is_kept_over_a_file_that_is_there(tmp_path):
    path, aside = tmp_path / "session.yaml", tmp_path / f"session.{os.getpid()}.yaml"
    aside.write_text("precious")
    cassettes = [Cassette(path, [STREAMED]) for _ in range(3)]
    cassettes[0].save()

    for cassette, name in zip(cassettes[1:], ("-2.yaml", "-3.yaml"), strict=True):
        with pytest.raises(CassetteError, match=name):
            cassette.flush()

    assert aside.read_text() == "precious"


def test_a_file_that_was_deleted_meanwhile_is_written_anew(tmp_path):
    path = tmp_path / "session.yaml"
    Cassette(path, [STREAMED]).save()
    cassette = Cassette.load(path)
    cassette.add(STREAMED)

    path.unlink()
    cassette.close()

    assert len(Cassette.load(path)) == 2


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

    files = [list(Cassette.load(file)) for file in tmp_path.iterdir()]
    assert len(refused) == 7
    assert {len(records) for records in files} == {50}
    assert {tuple({record.status for record in records}) for records in files} == {
        (200 + i,) for i in range(8)
    }


def test_a_failed_write_leaves_the_old_file_and_can_be_repeated(tmp_path, monkeypatch):
    path = tmp_path / "session.yaml"
    Cassette(path, [STREAMED]).save()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        cassette = Cassette.load(path)
        cassette.add(STREAMED)
        with pytest.raises(CassetteError, match=r"session\.yaml.*cannot be written: No space left"):
            cassette.close()
    after_failing = list(Cassette.load(path))
    cassette.flush()

    assert after_failing == [STREAMED]
    assert len(Cassette.load(path)) == 2
    assert [each.name for each in tmp_path.iterdir()] == ["session.yaml"]


def test_never_writes_more_than_it_would_read(tmp_path, monkeypatch):
    path = tmp_path / "session.yaml"
    Cassette(path, [STREAMED]).save()
    size = path.stat().st_size
    monkeypatch.setattr("llmbridge.stores.cassette_file.LIMIT_BYTES", size + 10)
    cassette = Cassette.load(path)
    cassette.add(STREAMED)

    with pytest.raises(CassetteError, match=r"session\.yaml.*record into more files.*\.\d+\.yaml"):
        cassette.close()

    assert list(Cassette.load(path)) == [STREAMED]


def test_a_record_that_cannot_be_written_does_not_stop_the_others(tmp_path):
    path, aside = tmp_path / "x.json", tmp_path / f"x.{os.getpid()}.yaml"
    binary = replace(STREAMED, chunks=((0.1, b"\xff"),))
    cassette = Cassette(path, [STREAMED, binary, STREAMED])

    with pytest.raises(CassetteError, match=rf"x\.json.*lacks.*as \.yaml.*{aside.name}"):
        cassette.flush()
    cassette.close()

    assert [record.body for record in Cassette.load(path)] == [STREAMED.body, STREAMED.body]
    assert [record.body for record in Cassette.load(aside)] == [b"\xff"]


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


def writer_of(cassette: Cassette) -> Thread | None:
    name = f"llmbridge writes {cassette.path}"
    return next((thread for thread in enumerate_threads() if thread.name == name), None)


def test_a_cassette_of_a_path_goes_on_with_what_is_there(tmp_path):
    path = tmp_path / "session.yaml"
    Cassette(path, [STREAMED]).save()

    cassette = Cassette(path)
    cassette.add(STREAMED)
    cassette.close()

    assert len(Cassette(path)) == 2


def test_what_is_added_is_on_disk_soon_without_asking(tmp_path):
    path = tmp_path / "session.yaml"
    cassette = Cassette(path)

    for count in (1, 2):
        cassette.add(STREAMED)
        writer = writer_of(cassette)
        assert writer is not None
        writer.join()
        assert len(Cassette.load(path)) == count
    assert writer_of(cassette) is None


def test_adding_never_waits_and_many_are_written_at_once(tmp_path, monkeypatch):
    reached, released, synced = Event(), Event(), list[int]()

    def slow(handle: int) -> None:
        synced.append(handle)
        reached.set()
        released.wait()

    monkeypatch.setattr(os, "fsync", slow)
    cassette = Cassette(tmp_path / "session.yaml")
    cassette.add(STREAMED)
    reached.wait()

    for _ in range(100):
        cassette.add(STREAMED)
    released.set()
    cassette.close()

    assert len(Cassette.load(tmp_path / "session.yaml")) == 101
    assert len(synced) <= 4
    assert writer_of(cassette) is None


def test_leaves_no_thread_no_handle_and_no_other_file(tmp_path):
    handles = Path("/proc/self/fd")
    if not handles.is_dir():
        pytest.skip("counts open files in /proc: run it on Linux")
    before = len(list(handles.iterdir()))

    for number in range(20):
        cassette = Cassette(tmp_path / f"{number}.yaml")
        cassette.add(STREAMED)
        cassette.close()

    # Threads of other tests may end meanwhile, and take their handles with them.
    assert len(list(handles.iterdir())) <= before
    assert [thread.name for thread in enumerate_threads() if str(tmp_path) in thread.name] == []
    assert len(list(tmp_path.iterdir())) == 20


RECORDING = """
import sys
from pathlib import Path
from shutil import copyfile
from llmbridge.stores.cassette import Cassette

sample = next(iter(Cassette.load(sys.argv[1])))
cassette = Cassette.open(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for _ in range(20):
    cassette.add(sample)
if "close" in sys.argv:
    cassette.close()
"""


def recording(sample: Path, path: Path, *how: str) -> subprocess.Popen[str]:
    """A process that is ready to record 20 times, and begins when told."""
    process = subprocess.Popen(
        [sys.executable, "-c", RECORDING, str(sample), str(path), *how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_of_two_processes_that_record_the_same_name_none_loses_anything(tmp_path):
    sample, folder = tmp_path / "sample.yaml", tmp_path / "cassettes"
    Cassette(sample, [STREAMED]).save()
    processes = [recording(sample, folder / "session.yaml", "close") for _ in range(4)]

    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate()[1] for process in processes]

    assert sorted(process.returncode for process in processes) == [0, 1, 1, 1]
    assert sum("CassetteError" in each and "somebody else" in each for each in said) == 3
    assert {len(Cassette.load(file)) for file in folder.iterdir()} == {20}
    assert len(list(folder.iterdir())) == 4


def test_a_process_that_ends_without_closing_loses_nothing(tmp_path):
    sample, path = tmp_path / "sample.yaml", tmp_path / "session.yaml"
    Cassette(sample, [STREAMED]).save()
    process = recording(sample, path)

    _, said = process.communicate("\n")

    assert (process.returncode, said) == (0, "")
    assert len(Cassette.load(path)) == 20


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
