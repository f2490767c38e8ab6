"""Providers with certificates of their own: who is trusted, and what the bridge shows of itself."""

from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from llmbridge import Bridge, Live
from llmbridge.errors import ConfigurationError
from llmbridge.providers import Provider as Row
from tests.certified import Certified
from tests.upstreams.asking import OPENAI, Heard, ask, bridge_to
from tests.upstreams.faulty import Provider, says, whole


async def heard(upstream: Live, certified: Certified, *, ask_clients: bool = False) -> Heard:
    async with (
        Provider(says(whole(b"{}")), tls=certified.serving(ask_clients=ask_clients)) as provider,
        bridge_to(provider.url, upstream) as bridge,
    ):
        answer = await ask(bridge, OPENAI, streaming=False)
    return replace(answer, body=answer.body.replace(str(provider.port).encode(), b"PORT"))


async def test_a_provider_whose_authority_is_named_is_trusted(certified: Certified) -> None:
    assert await heard(Live(ca=certified.ca), certified) == Heard(200, b"{}")


async def test_one_that_nobody_vouches_for_is_not_and_the_way_out_is_told(
    certified: Certified,
) -> None:
    answer = await heard(Live(), certified)

    assert answer.status == 502
    assert b"its certificate is not trusted" in answer.body
    assert b"name the file of its authority with Live(ca=...)" in answer.body


async def test_a_provider_that_asks_who_comes_is_shown_the_certificate(
    certified: Certified,
) -> None:
    upstream = Live(ca=certified.ca, cert=certified.client)

    assert await heard(upstream, certified, ask_clients=True) == Heard(200, b"{}")


async def test_without_one_such_a_provider_does_not_answer(certified: Certified) -> None:
    answer = await heard(Live(ca=certified.ca), certified, ask_clients=True)

    assert (answer.status, b"could not reach" in answer.body or b"closed" in answer.body) == (
        502,
        True,
    )


async def test_a_row_has_certificates_of_its_own(certified: Certified) -> None:
    async with Provider(says(whole(b"{}")), tls=certified.serving(ask_clients=True)) as provider:
        row = Row("team", provider.url, key="k" * 9, ca=certified.ca, cert=(certified.client,))
        async with (
            Bridge(providers=[row], environ={}) as bridge,
            httpx2.AsyncClient(transport=bridge.async_transport()) as client,
        ):
            answers = [
                await client.post("http://localhost/team/chat/completions", json={"model": "m"})
                for _ in range(2)
            ]

    assert [answer.status_code for answer in answers] == [200, 200]


def test_a_file_that_is_not_there_is_told_when_the_bridge_is_made(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.pem")
    row = Row("team", "https://llm.example.org", ca=missing)

    with pytest.raises(ConfigurationError, match=r"provider 'team': .*none\.pem' cannot be read"):
        Bridge(providers=[row], environ={})
    with pytest.raises(ConfigurationError, match=r"none\.pem' cannot be read: No such file"):
        Live(ca=missing)


@pytest.mark.parametrize("mine", ["ca", "cert"])
def test_a_file_that_holds_something_else_is_told_by_its_name(mine: str, tmp_path: Path) -> None:
    path = tmp_path / "some.pem"
    path.write_text("no certificate")

    with pytest.raises(ConfigurationError, match=r"some\.pem' does not hold"):
        Live(ca=path) if mine == "ca" else Live(cert=path)


def test_a_key_of_another_certificate_is_refused(certified: Certified, tmp_path: Path) -> None:
    other = tmp_path / "other.key"
    certified.authority.issue_cert("localhost").private_key_pem.write_to_path(other)

    with pytest.raises(ConfigurationError, match="KEY_VALUES_MISMATCH"):
        Live(cert=(certified.chain, other))


def test_a_key_with_a_password_is_refused_and_nobody_is_asked(
    certified: Certified, tmp_path: Path
) -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(Path(certified.key).read_bytes(), None)
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"word"),
        )
    )

    with pytest.raises(ConfigurationError, match="without a password"):
        Live(cert=(certified.chain, locked))


def test_more_than_two_files_are_no_certificate() -> None:
    row = Row("team", "https://llm.example.org", cert=("a", "b", "c"))

    with pytest.raises(ConfigurationError, match="'team': there are 3 files in cert"):
        Bridge(providers=[row], environ={})


def test_a_borrowed_client_has_its_own_certificates(certified: Certified) -> None:
    with pytest.raises(ConfigurationError, match=r"Live\(client=...\) has its own certificates"):
        Live(httpx2.AsyncClient, ca=certified.ca)


async def test_a_row_with_certificates_is_not_asked_over_a_borrowed_client(
    certified: Certified,
) -> None:
    row = Row("team", "https://llm.example.org", keyless=True, ca=certified.ca)
    async with (
        httpx2.AsyncClient() as borrowed,
        Bridge(Live(borrowed), providers=[row], environ={}) as bridge,
        httpx2.AsyncClient(transport=bridge.async_transport()) as client,
    ):
        answer = await client.post("http://localhost/team/chat/completions", json={"model": "m"})

    assert (answer.status_code, "has certificates of its own" in answer.text) == (500, True)
