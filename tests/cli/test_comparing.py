import json
from dataclasses import replace
from pathlib import Path

from llmbridge import Cassette
from llmbridge.cli.comparing import run_diff
from llmbridge.cli.demonstration import SESSIONS
from tests.cli import planted

OURS = SESSIONS / "anthropic.yaml"


def told(capsys, a: Path, b: Path):
    code = run_diff(str(a), str(b), as_json=True)
    return code, json.loads(capsys.readouterr().out)


def test_a_file_equals_itself_in_any_order_and_at_any_pace(tmp_path, capsys):
    records = [replace(record, duration_s=99.0) for record in Cassette.load(OURS)]
    Cassette(tmp_path / "b.yaml", records[::-1]).save()

    code, it = told(capsys, OURS, tmp_path / "b.yaml")

    assert code == 0
    assert [(pair["a"]["interaction"], pair["b"]["interaction"]) for pair in it["pairs"]] == [
        (0, 1),
        (1, 0),
    ]
    assert it["only_a"] == it["only_b"] == []
    assert it["a"]["tokens"] == it["b"]["tokens"] == 2856


def edited(path: Path, *swaps: tuple[str, str]) -> Path:
    text = OURS.read_text("utf-8")
    for old, new in swaps:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text, "utf-8")
    return path


def test_a_request_that_changed_is_told_by_path(tmp_path, capsys):
    code, it = told(
        capsys, OURS, edited(tmp_path / "b.yaml", ('"max_tokens":2048', '"max_tokens":99'))
    )

    assert code == 1
    assert it["pairs"][0]["request"] == [{"path": "$.max_tokens", "a": "2048", "b": "99"}]
    assert it["pairs"][0]["answer"] == []


def test_an_answer_that_changed_is_told_by_path(tmp_path, capsys):
    code, it = told(capsys, OURS, edited(tmp_path / "b.yaml", ("Two questions", "Nine questions")))

    assert code == 1
    assert [each["path"] for each in it["pairs"][0]["answer"]] == ["$.content[0].text"]


def test_what_stands_alone_is_named(tmp_path, capsys):
    (first, _) = Cassette.load(OURS)
    Cassette(tmp_path / "a.yaml", [first, planted.recording()]).save()
    Cassette(tmp_path / "b.yaml", [first]).save()

    code, it = told(capsys, tmp_path / "a.yaml", tmp_path / "b.yaml")

    assert code == 1
    assert it["only_a"] == [{"file": str(tmp_path / "a.yaml"), "interaction": 1}]


def test_lines_for_a_pipe(tmp_path, capsys):
    changed = edited(tmp_path / "b.yaml", ('"max_tokens":2048', '"max_tokens":99'))

    run_diff(str(OURS), str(changed), as_json=False)

    out = capsys.readouterr().out
    assert f"{OURS} #0, {changed} #0\n  request $.max_tokens: 2048 -> 99\n" in out
    assert "0 the same, 2 different, 0 only in the first, 0 only in the second\n" in out
    assert "tokens           2,856   2,856\n" in out
