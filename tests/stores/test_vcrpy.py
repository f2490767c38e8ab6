"""What only vcrpy can tell: it reads our files, and keeps our key in them."""

import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
import vcr

from llmbridge.exchange.call import Headers
from llmbridge.exchange.record import Record
from llmbridge.stores.cassette import Cassette
from tests.stores.recordings import ASKED, EVENTS, STREAM, STREAMED, URL

# vcrpy itself

CLIENTS = pytest.mark.parametrize("module", [httpx, httpx2], ids=["httpx", "httpx2"])


def recorded(path: Path) -> list[Record]:
    """Records written to this path: a stream, an answer with bytes that are no text, and an error."""
    blocking = replace(
        STREAMED,
        interception_id="session.yaml#1",
        request=replace(ASKED, url=f"{URL}?b=1", body="é\n".encode()),
        headers=Headers((("set-cookie", "a=1"), ("set-cookie", "b=2"), ("content-length", "4"))),
        chunks=((0.5, b"\x00\xff"), (0.6, b"\r\n")),
        status=529,
    )
    Cassette(path, [STREAMED, blocking]).save()
    return [STREAMED, blocking]


def play(module: Any, path: Path, **options: Any) -> list[Any]:
    with (
        vcr.use_cassette(str(path), match_on=["method", "uri", "body"], **options),
        module.Client() as client,
    ):
        return [
            client.post(URL, content=ASKED.body),
            client.post(f"{URL}?b=1", content="é\n".encode()),
        ]


@pytest.mark.feature("replay", 2)
@CLIENTS
@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_vcrpy_replays_our_files(module, suffix, tmp_path):
    path = tmp_path / "session.yaml"
    records = recorded(path)
    options = {}
    if suffix == "json":
        records = [records[0], replace(records[1], chunks=((0.5, b"text"),))]
        path = tmp_path / "session.json"
        Cassette(path, records).save()
        options = {"serializer": "json"}

    answers = play(module, path, record_mode="none", **options)

    assert [(each.status_code, each.content) for each in answers] == [
        (record.status, record.body) for record in records
    ]
    assert answers[1].headers.get_list("set-cookie") == ["a=1", "b=2"]


@pytest.mark.feature("replay", 2)
@CLIENTS
def test_vcrpy_keeps_our_key_when_it_saves(module, tmp_path, httpserver):
    path = tmp_path / "session.yaml"
    records = recorded(path)
    httpserver.expect_request("/new").respond_with_data("fresh")

    with vcr.use_cassette(str(path), record_mode="new_episodes"), module.Client() as client:
        client.post(URL, content=ASKED.body)
        client.get(httpserver.url_for("/new"))

    assert "llmbridge" in path.read_text()
    *again, fresh = Cassette.load(path)
    assert again == records
    assert (fresh.body, fresh.timed, fresh.interception_id) == (b"fresh", False, "session.yaml#2")


@pytest.mark.feature("replay", 3)
@CLIENTS
def test_reads_what_vcrpy_records(module, tmp_path, httpserver):
    path = tmp_path / "session.yaml"
    body = gzip.compress(STREAM)
    httpserver.expect_request("/v1/messages").respond_with_data(
        body, headers={"content-encoding": "gzip", "content-type": "text/event-stream"}
    )
    url = httpserver.url_for("/v1/messages")

    with vcr.use_cassette(str(path)), module.Client() as client:
        client.post(url, content=b"\xff{}", headers={"x-one": "1"})
    (record,) = Cassette.load(path)

    assert record.request is not None
    assert (record.request.method, record.request.url) == ("POST", url)
    assert (record.request.body, record.request.headers["x-one"]) == (b"\xff{}", "1")
    assert [chunk for _, chunk in record.chunks] == list(EVENTS)
    assert record.dialect == "anthropic.messages"
