import json

import pytest

from llmbridge import Cassette
from llmbridge.cli.converting import Timing, run_convert
from llmbridge.cli.demonstration import SESSIONS
from tests.cli import planted
from tests.cli.planted import SECRETS, VARIABLE
from tests.shared import SHARED, needs_shared

NO_TIMES = Timing()


def convert(*paths: object, to: object = None, form: str = "yaml", **options: object) -> int:
    given = {"force": False, "timing": NO_TIMES, "as_json": False} | options
    return run_convert(map(str, paths), to and str(to), form, **given)  # type: ignore[arg-type]  # as typed by a user


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_a_file_of_vcrpy_becomes_ours(form, tmp_path):
    old = planted.vcrpys(tmp_path / "old" / "a.yaml")

    code = convert(old.parent, to=tmp_path / "new", form=form)

    (path,) = (tmp_path / "new").iterdir()
    (before,), (after,) = Cassette.load(old), Cassette.load(path)
    assert (code, path.name) == (0, f"a.{form}")
    assert b"llmbridge" in path.read_bytes()
    assert len(after.chunks) == len(before.chunks)
    assert not after.timed


def test_secrets_stay_behind(tmp_path, monkeypatch):
    monkeypatch.setenv(*next(iter(VARIABLE.items())))
    old = planted.vcrpys(tmp_path / "a.yaml")

    convert(old, form="json")

    written = (tmp_path / "a.json").read_text("utf-8")
    assert [secret for secret in SECRETS.values() if secret in written] == []


def test_nothing_is_overwritten_without_force(tmp_path, capsys):
    old = planted.vcrpys(tmp_path / "a.yaml")
    before = old.read_bytes()

    refused = convert(old)
    same = old.read_bytes() == before
    forced = convert(old, force=True)

    assert (refused, same, forced) == (2, True, 0)
    assert "is there already: give --force" in capsys.readouterr().err
    assert b"llmbridge" in old.read_bytes()


def test_times_are_made_up_only_when_asked_for(tmp_path):
    old = planted.vcrpys(tmp_path / "a.yaml")

    convert(old, to=tmp_path / "x", timing=Timing(ttft=0.4, tps=50))

    (record,) = Cassette.load(tmp_path / "x")
    assert record.timed
    assert [seconds for seconds, _ in record.chunks] == [0.4, 0.42, 0.44, 0.46]
    assert record.duration_s == 0.46


def test_times_that_were_recorded_stay(tmp_path):
    convert(SESSIONS / "anthropic.yaml", to=tmp_path, timing=Timing(ttft=9, tps=1))

    assert [record.chunks for record in Cassette.load(tmp_path)] == [
        record.chunks for record in Cassette.load(SESSIONS / "anthropic.yaml")
    ]


def test_json_tells_where_files_went(tmp_path, capsys):
    convert(SESSIONS / "anthropic.yaml", to=tmp_path, as_json=True)

    assert json.loads(capsys.readouterr().out) == {
        "files": [
            {
                "file": str(SESSIONS / "anthropic.yaml"),
                "to": str(tmp_path / "anthropic.yaml"),
                "interactions": 2,
                "redacted": 0,
            }
        ],
        "errors": [],
    }


@needs_shared
def test_other_recorders_files_keep_their_bodies(tmp_path):
    assert SHARED is not None
    corpus = SHARED / "corpus" / "crmne+ruby_llm"

    code = convert(corpus, to=tmp_path)

    assert code == 0
    assert [record.body for record in Cassette.load(tmp_path)] == [
        record.body for record in Cassette.load(corpus)
    ]
