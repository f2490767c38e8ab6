import json
from pathlib import Path

import pytest
import yaml

from llmbridge import Cassette
from llmbridge.cli.linting import Oddity, lint, redactor_of, run_lint
from llmbridge.exchange.redact import Redactor
from tests.cli import planted
from tests.cli.planted import SECRETS, VARIABLE

REDACTOR = redactor_of(VARIABLE)


@pytest.mark.parametrize("make", [planted.ours, planted.vcrpys])
@pytest.mark.parametrize("name", ["a.yaml", "a.json"])
def test_every_planted_secret_is_found_in_its_place(make, name, tmp_path):
    found = lint(make(tmp_path / name), REDACTOR).findings

    assert sorted(finding.place for finding in found) == sorted(SECRETS)


def test_an_excerpt_does_not_tell_the_secret(tmp_path):
    found = lint(planted.ours(tmp_path / "a.yaml"), REDACTOR).findings

    assert [s for s in SECRETS.values() if any(s in finding.excerpt for finding in found)] == []


def test_rules_and_headers_can_be_ignored(tmp_path):
    path = planted.ours(tmp_path / "a.yaml")

    found = lint(path, REDACTOR, frozenset({"openai-organization", "groq-key"})).findings

    left = {finding.place for finding in found}
    assert set(SECRETS) - left == {
        "response.headers.openai-organization",
        "response.body event 2 $.delta.text",
    }


def test_a_clean_file_has_no_findings(tmp_path):
    linted = lint(planted.clean(tmp_path / "a.yaml"), REDACTOR)

    assert (linted.findings, linted.warnings) == ((), ())


def labelled(path: Path, body: object, **headers: str) -> Path:
    lists = {name.replace("_", "-"): [value] for name, value in headers.items()}
    request: dict[str, object] = {"method": "GET", "uri": "https://h/", "body": None, "headers": {}}
    response = {"status": {"code": 200}, "headers": lists, "body": {"string": body}}
    interactions = [{"request": request, "response": response}]
    path.write_text(yaml.dump({"version": 1, "interactions": interactions}), "utf-8")
    return path


@pytest.mark.parametrize(
    ("body", "headers", "warning"),
    [
        ("héllo", {"content_length": "6"}, None),
        (
            "hello",
            {"Content_Length": "6"},
            ("response.headers.content-length", "says 6, and the body has 5 bytes"),
        ),
        (
            "hello",
            {"content_encoding": "gzip", "content_length": "25"},
            ("response.headers.content-encoding", "says 'gzip', and the body is plain"),
        ),
        (b"\x1f\x8bxx", {"content_encoding": "gzip", "content_length": "4"}, None),
        (
            'data: {"type":"message_start"}\n\n',
            {"content_type": "text/event-stream"},
            None,
        ),
    ],
)
def test_labels_that_lie_are_warnings(body, headers, warning, tmp_path):
    linted = lint(labelled(tmp_path / "a.yaml", body, **headers), Redactor(lenient=True))

    assert linted.warnings == (() if warning is None else (Oddity(0, *warning),))


def test_unfinished_streams_are_warnings(tmp_path):
    record = planted.recording()
    cut = Cassette(tmp_path / "a.yaml", [record])
    cut.save()
    text = (tmp_path / "a.yaml").read_text("utf-8").replace("end: completed", "end: client_gone")
    (tmp_path / "b.yaml").write_text(text, "utf-8")
    stopped = planted.vcrpys(tmp_path / "c.yaml")
    stopped.write_text(stopped.read_text("utf-8").replace("message_stop", "ping"), "utf-8")

    said = [lint(tmp_path / name, REDACTOR).warnings for name in ("a.yaml", "b.yaml", "c.yaml")]

    assert said == [
        (),
        (Oddity(0, "response", "was recorded as client_gone"),),
        (Oddity(0, "response.body", "the stream stops before its end"),),
    ]


def test_json_tells_all(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(*next(iter(VARIABLE.items())))
    path = planted.ours(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_text("{", "utf-8")

    code = run_lint([str(tmp_path)], (), as_json=True)

    told = json.loads(capsys.readouterr().out)
    assert code == 2
    assert told["files"] == 2
    assert {each["place"] for each in told["findings"]} == set(SECRETS)
    assert {each["file"] for each in told["findings"]} == {str(path)}
    assert set(told["findings"][0]) == {"file", "interaction", "place", "rule", "excerpt"}
    assert [each["file"] for each in told["errors"]] == [str(tmp_path / "b.yaml")]
