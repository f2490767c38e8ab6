"""Every file of the corpus loads, whoever recorded it, with the bodies that its manifest tells."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from llmbridge.bridge import Bridge
from llmbridge.exchange.blobs import shrink
from llmbridge.exchange.call import Request
from llmbridge.exchange.record import Record
from llmbridge.stores.cassette import Cassette
from llmbridge.stores.cassette_read import with_length
from llmbridge.stores.cassette_write import dump
from llmbridge.upstreams.replay import Replay
from tests.shared import SHARED, needs_shared
from tests.stores.recordings import loads, timeless

pytestmark = needs_shared

CORPUS = (SHARED or Path()) / "corpus"
FILES = 119
INTERACTIONS = 216


def cassettes() -> Iterator[Any]:
    if SHARED is None:
        return
    manifest = json.loads((CORPUS / "manifest.json").read_text("utf-8"))
    for cassette in manifest["cassettes"]:
        yield pytest.param(cassette["file"], cassette["interactions"], id=cassette["file"])


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def kept(record: Record, item: dict[str, Any]) -> bytes:
    """The bytes that the manifest has the hash of: where the framing was lost, the lines that the file holds."""
    if item["streaming"] != "chunks-jsonl":
        return record.body
    lines = [line for line in record.body.splitlines() if line.startswith(b"data: {")]
    return b"".join(line.removeprefix(b"data: ") + b"\n" for line in lines)


def test_the_manifest_is_covered_whole() -> None:
    files = [*cassettes()]

    assert len(files) == FILES
    assert sum(len(file.values[1]) for file in files) == INTERACTIONS


@pytest.mark.feature("replay", 3)
@pytest.mark.parametrize(("file", "items"), [*cassettes()])
def test_every_recording_has_the_status_and_the_body_of_the_manifest(
    file: str, items: list[dict[str, Any]]
) -> None:
    records = list(Cassette.load(CORPUS / file))

    found = [(item, records[item["index"]]) for item in items]

    assert [(record.status, sha256(kept(record, item))) for item, record in found] == [
        (item["status"], item["body_sha256"]) for item in items
    ]


@pytest.mark.parametrize(("file", "items"), [*cassettes()])
def test_every_request_has_the_body_of_the_manifest(file: str, items: list[dict[str, Any]]) -> None:
    requests = [record.request for record in Cassette.load(CORPUS / file)]

    asked = [requests[item["index"]] for item in items]

    assert [sha256(request.body) if request and request.body else None for request in asked] == [
        item["request_sha256"] for item in items
    ]


@pytest.mark.parametrize(("file", "items"), [*cassettes()])
def test_every_request_is_answered_with_the_body_of_the_manifest(
    file: str, items: list[dict[str, Any]]
) -> None:
    records = list(Cassette.load(CORPUS / file))
    asked = [item for item in items if records[item["index"]].request is not None]

    with (
        Bridge(Replay(CORPUS / file), environ={}) as bridge,
        httpx2.Client(transport=bridge.transport()) as client,
    ):
        # All of the file, in its order: it may hold one request several times.
        bodies = [answered(client, record.request) if record.request else b"" for record in records]

    assert [sha256(bodies[item["index"]]) for item in asked] == [
        item["body_sha256"] for item in asked
    ]


def answered(client: httpx2.Client, request: Request) -> bytes:
    # Some have a placeholder for the host.
    url = re.sub(r"^<\w+>", "https://api.openai.com/v1", request.url)
    headers = request.headers.without("content-length", "transfer-encoding")
    answer = client.request(request.method, url, headers=dict(headers), content=request.body)
    return answer.content


@pytest.mark.parametrize(("file", "items"), [*cassettes()])
def test_every_recording_becomes_a_cassette_of_ours_that_says_the_same(
    file: str, items: list[dict[str, Any]]
) -> None:
    records = list(Cassette.load(CORPUS / file))

    again = loads(dump(records), Path(file).name)

    assert [timeless(record) for record in again] == [
        timeless(stored(record)) for record in records
    ]


def stored(record: Record) -> Record:
    """The record as a file has it: without the framing of its answer, and with images as their hashes."""
    request = record.request
    if request is not None and (body := shrink(request.body)) is not request.body:
        headers = with_length(request.headers, len(body))
        request = replace(request, body=body, headers=headers)
    return replace(record, request=request, headers=record.headers.without("transfer-encoding"))
