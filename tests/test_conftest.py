import asyncio
import socket

import pytest


def test_a_name_beyond_loopback_is_not_looked_up():
    with pytest.raises(RuntimeError, match=r"may not reach 'api\.example\.com'"):
        socket.getaddrinfo("api.example.com", 443)


@pytest.mark.parametrize("method", ["connect", "connect_ex"])
def test_an_address_beyond_loopback_is_not_connected_to(method):
    with (
        socket.socket() as client,
        pytest.raises(RuntimeError, match=r"may not reach '192\.0\.2\.1'"),
    ):
        getattr(client, method)(("192.0.2.1", 80))


async def test_async_code_is_held_to_loopback_too():
    with pytest.raises(RuntimeError, match=r"may not reach '192\.0\.2\.1'"):
        await asyncio.open_connection("192.0.2.1", 80)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_loopback_stays_open(host):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()

        with socket.create_connection((host, address[1])) as client:
            assert client.getpeername() == address


@pytest.mark.xdist_group("alone")
def test_a_test_of_a_group_says_so_where_tests_are_distributed_by_groups(request):
    by_groups = request.config.getoption("loadgroup", default=False)

    assert request.node.nodeid.endswith("@alone") == by_groups
