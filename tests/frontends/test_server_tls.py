"""The server over TLS: streams, SDKs, a client that leaves, and files that will not do."""

import socket
import ssl
import warnings
from pathlib import Path
from typing import Any

import httpx2
import pytest

from llmbridge import Bridge, Script
from llmbridge.errors import ConfigurationError
from llmbridge.frontends.server import Server
from tests.certified import Certified
from tests.frontends.fakes import EVENTS, JSON, FakeHandle, events, unfinished


@pytest.mark.parametrize("files", ["one", "two", "context"])
def test_a_bridge_serves_https(certified: Certified, tmp_path: Path, files: str) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(Path(certified.key).read_bytes() + Path(certified.chain).read_bytes())
    tls: dict[str, Any] = {
        "one": both,
        "two": (certified.chain, certified.key),
        "context": certified.serving(),
    }
    body = {"model": "m", "input": "Hi"}

    with Bridge(Script("Hello"), environ={}) as bridge, bridge.serve(tls=tls[files]) as server:
        answer = httpx2.post(
            f"{server.url}/v1/responses", json=body, verify=certified.trusting(), trust_env=False
        )

    assert server.url.startswith("https://127.0.0.1:")
    assert answer.json()["output"][0]["content"][0]["text"] == "Hello"


def test_the_variables_lead_an_sdk_to_https(certified: Certified) -> None:
    import openai

    with (
        Bridge(Script("Hello"), environ={}) as bridge,
        bridge.serve(tls=(certified.chain, certified.key)) as server,
        httpx2.Client(verify=certified.trusting(), trust_env=False) as http,
    ):
        url, key = server.env()["OPENAI_BASE_URL"], server.env()["OPENAI_API_KEY"]
        with openai.OpenAI(base_url=url, api_key=key, http_client=http) as client:
            stream = client.responses.create(model="m", input="Hi", stream=True)
            told = "".join(
                event.delta for event in stream if event.type == "response.output_text.delta"
            )

    assert told == "Hello"


def test_a_stream_passes_whole(certified: Certified, serve) -> None:
    server = serve(FakeHandle(events), tls=certified.serving())

    with httpx2.Client(verify=certified.trusting(), trust_env=False) as client:
        answer = client.post(f"{server.url}/v1/messages", json={})

    assert answer.content == b"".join(EVENTS)


def test_it_stops_with_a_stream_open(certified: Certified, serve) -> None:
    handle = FakeHandle(unfinished, farewell=lambda error: b"event: error\n\n")
    server = serve(handle, tls=certified.serving())

    with (
        httpx2.Client(verify=certified.trusting(), trust_env=False) as client,
        client.stream("POST", f"{server.url}/v1/messages", json={}) as answer,
    ):
        pieces = answer.iter_raw()
        first = next(pieces)
        server.stop()
        rest = b"".join(pieces)

    assert (first, rest) == (EVENTS[0], b"event: error\n\n")
    assert handle.end() == "bridge_shutdown"


def test_a_client_that_leaves_mid_stream_stops_the_upstream(certified: Certified, serve) -> None:
    handle = FakeHandle(unfinished)
    server = serve(handle, tls=certified.serving())

    with (
        httpx2.Client(verify=certified.trusting(), trust_env=False) as client,
        client.stream("POST", f"{server.url}/v1/messages", json={}) as answer,
    ):
        next(answer.iter_raw())

    assert handle.end() == "client_gone"


def test_a_handshake_that_lasts_until_it_has_stopped_leads_nowhere(
    certified: Certified, serve
) -> None:
    server = serve(handle := FakeHandle(b"{}", headers=JSON), tls=certified.serving())
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        # It has been accepted when somebody who came later was answered.
        httpx2.get(f"{server.url}/v1/models", verify=certified.trusting(), trust_env=False)
        server.stop()

        got = answered(client, certified)

    assert (got, len(handle.requests)) == (b"", 1)


def answered(client: socket.socket, certified: Certified) -> bytes:
    """The first byte of an answer, if any."""
    try:
        with certified.trusting().wrap_socket(client, server_hostname="127.0.0.1") as secure:
            secure.sendall(b"GET /v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
            return secure.recv(1)
    except OSError:
        return b""


def test_a_large_answer_passes_to_a_slow_reader(certified: Certified, serve) -> None:
    large = b"x" * 4_000_000
    server = serve(FakeHandle(large, headers=JSON), tls=certified.serving())

    with (
        httpx2.Client(verify=certified.trusting(), trust_env=False) as client,
        client.stream("POST", f"{server.url}/v1/messages", json={}) as answer,
    ):
        size = sum(len(piece) for piece in answer.iter_raw(1000))

    assert size == len(large)


def test_who_speaks_plain_http_gets_no_answer_and_the_next_one_does(
    certified: Certified, serve
) -> None:
    server = serve(FakeHandle(b"{}", headers=JSON), tls=certified.serving())

    with pytest.raises(httpx2.HTTPError):
        httpx2.post(server.url.replace("https", "http"), json={}, trust_env=False)
    with httpx2.Client(verify=certified.trusting(), trust_env=False) as client:
        assert client.post(server.url, json={}).content == b"{}"


def test_versions_before_1_2_are_not_spoken(certified: Certified) -> None:
    with Bridge(Script("Hello"), environ={}) as bridge:
        server = bridge.serve(tls=(certified.chain, certified.key))
        context = certified.trusting()
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(f"{server.url}/healthz", verify=context, trust_env=False)


def test_files_that_will_not_do_are_told_by_name_and_nothing_is_served(
    certified: Certified, tmp_path: Path
) -> None:
    with Bridge(Script("Hello"), environ={}) as bridge:
        with pytest.raises(ConfigurationError, match=r"none\.pem' cannot be read: No such file"):
            bridge.serve(tls=tmp_path / "none.pem")
        with pytest.raises(
            ConfigurationError, match=r"chain\.pem' does not hold a certificate with"
        ):
            bridge.serve(tls=certified.chain)

        assert repr(bridge).endswith(", store=MemoryStore(0 interceptions, 0 records))")


# Renewal


def shown(server: Server, certified: Certified) -> str:
    """The serial number of the certificate that somebody who connects now is shown."""
    with (
        socket.create_connection(("127.0.0.1", server.port)) as raw,
        certified.trusting().wrap_socket(raw, server_hostname="127.0.0.1") as secure,
    ):
        found = secure.getpeercert()
    assert found
    return str(found["serialNumber"])


def write(certified: Certified, path: Path) -> None:
    """A new certificate and its key, in place of what is there."""
    made = certified.authority.issue_cert("127.0.0.1")
    made.private_key_and_cert_chain_pem.write_to_path(path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def test_a_renewed_certificate_is_shown_to_the_next_client(
    certified: Certified, tmp_path: Path
) -> None:
    path = tmp_path / "server.pem"
    write(certified, path)

    with Bridge(Script("Hello"), environ={}) as bridge, bridge.serve(tls=path) as server:
        before = [shown(server, certified) for _ in range(2)]
        write(certified, path)
        after = [shown(server, certified) for _ in range(2)]

    assert before[0] == before[1] != after[0] == after[1]


def test_files_that_will_not_do_any_more_leave_the_certificate_of_before(
    certified: Certified, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "server.pem"
    write(certified, path)

    with Bridge(Script("Hello"), environ={}) as bridge, bridge.serve(tls=path) as server:
        before = shown(server, certified)
        path.write_text("half")
        broken = [shown(server, certified) for _ in range(2)]
        path.unlink()
        gone = shown(server, certified)
        write(certified, path)
        renewed = shown(server, certified)

    assert (broken, gone) == ([before] * 2, before)
    assert renewed != before
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert "server.pem' does not hold a certificate" in caplog.messages[0]
