"""Checks that an environment with vcrpy and pytest-recording runs on files of ours; it has no llmbridge."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import vcr

HERE = Path(__file__).parent
URL = "https://api.example.com/v1/messages"
ASKED = (b'{"stream":true}', '{"text":"\u00e9"}'.encode())
STREAM = b'event: a\ndata: {"n":1}\n\n: ping\n\nevent: b\ndata: {"n":2}\n\n'
ANSWERS = (STREAM, b"\x00\xff")


def ask(count: int = 2) -> list[tuple[int, bytes]]:
    with httpx.Client() as client:
        answers = [client.post(URL, content=body) for body in ASKED[:count]]
    return [(answer.status_code, answer.content) for answer in answers]


@pytest.mark.vcr
def test_pytest_recording_replays_our_file():
    assert ask() == [(200, answer) for answer in ANSWERS]


@pytest.mark.parametrize(("suffix", "count"), [("yaml", 2), ("json", 1)])
def test_plain_vcrpy_replays_our_file(suffix, count):
    path = str(HERE / f"plain.{suffix}")

    with vcr.use_cassette(
        path, record_mode="none", serializer=suffix, match_on=["method", "uri", "body"]
    ):
        answers = ask(count)

    assert answers == [(200, answer) for answer in ANSWERS[:count]]


class Fresh(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "5")
        self.end_headers()
        self.wfile.write(b"fresh")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Fresh) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_plain_vcrpy_saves_our_file_again_with_our_key(url):
    path = HERE / "saved_again.yaml"

    with vcr.use_cassette(str(path), record_mode="new_episodes"), httpx.Client() as client:
        client.get(url)

    assert path.read_text().count("llmbridge:") == 2
