import json
from dataclasses import replace

import pytest

from llmbridge import Cassette
from llmbridge.cli.files import files_of
from llmbridge.cli.linting import redactor_of
from llmbridge.cli.scrubbing import find, run_scrub, scrub, targets_of
from llmbridge.errors import CassetteError
from llmbridge.exchange.call import Headers
from tests.cli import planted
from tests.cli.planted import SECRETS, VARIABLE

REDACTOR = redactor_of(VARIABLE)


def secrets_in(data: bytes) -> list[str]:
    """Those whose bytes are there, also across the borders of chunks: a file holds its bodies whole."""
    return [secret for secret in SECRETS.values() if secret.encode() in data]


@pytest.mark.parametrize("make", [planted.ours, planted.vcrpys])
@pytest.mark.parametrize(
    ("name", "to"), [("a.yaml", "a.yaml"), ("a.json", "a.json"), ("a.yaml", "noext")]
)
def test_no_planted_secret_is_left(make, name, to, tmp_path):
    path = make(tmp_path / name).rename(tmp_path / to)
    before = secrets_in(path.read_bytes())

    scrub(path, REDACTOR)

    assert (sorted(before), secrets_in(path.read_bytes())) == (sorted(SECRETS.values()), [])


@pytest.mark.parametrize("make", [planted.ours, planted.vcrpys])
def test_all_else_stays_and_a_second_run_changes_nothing(make, tmp_path):
    path = make(tmp_path / "a.yaml")
    (before,) = Cassette.load(path)

    scrub(path, REDACTOR)
    once = path.read_bytes()
    again = scrub(path, REDACTOR)

    (after,) = Cassette.load(path)
    expected = replace(REDACTOR.record(before), redacted=after.redacted)
    assert after == expected
    assert after.request is not None
    assert after.request.headers["user-agent"] == "vcr/1"
    assert (again.replaced, path.read_bytes()) == ((), once)


def test_times_and_pieces_stay_where_a_secret_was_split_over_chunks(tmp_path):
    path = planted.ours(tmp_path / "a.yaml")

    scrub(path, REDACTOR)

    (record,) = Cassette.load(path)
    assert [seconds for seconds, _ in record.chunks] == [0.1, 0.2, 0.3, 0.4]
    assert [chunk.count(b"<redacted:") for _, chunk in record.chunks] == [1, 1, 0, 0]


def test_a_file_of_vcrpy_keeps_its_comments_and_its_layout(tmp_path):
    path = planted.vcrpys(tmp_path / "a.yaml", comment="# keep me\n")
    before = path.read_text("utf-8").splitlines()

    scrub(path, REDACTOR)

    after = path.read_text("utf-8").splitlines()
    changed = [new for old, new in zip(before, after, strict=True) if old != new]
    assert after[0] == "# keep me"
    assert all("<redacted:" in line for line in changed)


def test_a_stated_length_is_restated(tmp_path):
    record = planted.recording()
    stated = Headers((*record.headers.pairs, ("content-length", str(len(record.body)))))
    path = planted.vcrpys(tmp_path / "a.yaml", replace(record, headers=stated))

    scrub(path, REDACTOR)

    written = path.read_text("utf-8")
    (after,) = Cassette.load(path)
    assert f"content-length:\n      - '{len(after.body)}'" in written


def test_what_cannot_be_taken_out_of_a_format_is_refused_and_nothing_is_written(tmp_path):
    path = tmp_path / "a.yaml"
    # A value so short that it stands everywhere, in a format that only its own recorder writes.
    text = """http_interactions:
- request:
    method: get
    uri: https://h/
    body: {encoding: UTF-8, string: ''}
    headers: {Authorization: [get]}
  response:
    status: {code: 200, message: OK}
    headers: {}
    body: {encoding: UTF-8, string: '{}'}
recorded_with: VCR 6.0.0
"""
    path.write_text(text, "utf-8")

    with pytest.raises(CassetteError, match="cassette convert"):
        scrub(path, REDACTOR)

    assert path.read_text("utf-8") == text


def test_a_dry_run_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(*next(iter(VARIABLE.items())))
    path = planted.ours(tmp_path / "a.yaml")
    before = path.read_bytes()

    code = run_scrub([str(path)], None, dry_run=True, as_json=True)

    told = json.loads(capsys.readouterr().out)
    assert (code, path.read_bytes()) == (0, before)
    assert told["dry_run"] is True
    assert len(told["files"][0]["replaced"]) == len(SECRETS)


def test_another_folder_gets_all_files(tmp_path, capsys):
    planted.ours(tmp_path / "in" / "deep" / "a.yaml")
    plain = planted.clean(tmp_path / "in" / "b.yaml")
    before = (tmp_path / "in" / "deep" / "a.yaml").read_bytes()

    code = run_scrub([str(tmp_path / "in")], str(tmp_path / "out"), dry_run=False, as_json=False)

    assert code == 0
    assert (tmp_path / "in" / "deep" / "a.yaml").read_bytes() == before
    assert (tmp_path / "out" / "b.yaml").read_bytes() == plain.read_bytes()
    assert find(tmp_path / "out" / "deep" / "a.yaml", redactor_of({})).replaced == ()
    assert "secrets replaced in 2 files" in capsys.readouterr().out


def test_two_files_of_one_name_do_not_overwrite_each_other(tmp_path):
    paths = [planted.clean(tmp_path / folder / "a.yaml") for folder in "xy"]

    with pytest.raises(CassetteError, match="would both become"):
        targets_of(files_of(map(str, paths)), tmp_path / "out")


def test_a_secret_spread_over_events_is_told_and_stays(tmp_path, capsys):
    record = planted.recording()
    start, _, rest = record.body.partition(b"\n\n")
    key = SECRETS["response.body event 1 $.delta.text"]
    pieces = [start + b"\n\n", planted.said(key[:9]), planted.said(key[9:]), rest[-60:]]
    chunks = tuple((0.1, piece) for piece in pieces[:3])
    Cassette(
        tmp_path / "a.yaml", [replace(record, request=None, headers=Headers(), chunks=chunks)]
    ).save()

    code = run_scrub([str(tmp_path)], None, dry_run=False, as_json=False)

    assert code == 1
    assert "spread over events and stays: record it again" in capsys.readouterr().out


def test_the_mode_of_a_file_stays(tmp_path):
    path = planted.ours(tmp_path / "a.yaml")
    path.chmod(0o644)

    scrub(path, REDACTOR)

    assert path.stat().st_mode & 0o777 == 0o644


def test_a_file_that_cannot_be_read_is_not_counted(tmp_path, capsys):
    planted.clean(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_text("interactions: [")

    code = run_scrub([str(tmp_path)], None, dry_run=False, as_json=False)

    assert code == 2
    assert "0 secrets replaced in 1 files" in capsys.readouterr().out
