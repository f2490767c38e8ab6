"""What every test stands on: no network but loopback, repeatable Hypothesis runs, asyncio alone."""

import gc
import ipaddress
import os
import socket
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from hypothesis import HealthCheck, settings

from tests.certified import Certified, certified_in
from tests.shared import NO_SHARED, SHARED

if TYPE_CHECKING:
    from tests.postgres import Place, Postgres

# nbformat brings jsonschema, which would compile 38 grammars of this for a check that nobody asks for.
sys.modules["rfc3987_syntax"] = ModuleType("rfc3987_syntax")

settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is there once all tests are collected stays: no search for garbage need look at it again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 10, 20)
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Tests of one `xdist_group` stay in one process: pytest 9.2 does not read where xdist 3.8 notes that.

    Source: pytest-xdist's issue 1386. To be deleted when that is closed.
    """
    for item in items:
        noted = getattr(item, "_nodeid", item.nodeid)
        if noted != item.nodeid:
            item._id = type(item.id).parse(noted)


class NetworkBlocked(RuntimeError):
    """A test reached for a host beyond loopback. Not an OSError, which clients take for bad weather."""


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder beside the checkout, or a skip that says what is missing."""
    if SHARED is None:
        pytest.skip(NO_SHARED)
    return SHARED


@pytest.fixture(scope="session")
def postgres_server() -> Iterator["Postgres"]:
    """A PostgreSQL server that is started when the first test wants it."""
    from tests.postgres import served

    with served() as server:
        yield server


@pytest.fixture
def postgres(postgres_server: "Postgres") -> Iterator["Place"]:
    """An empty place in it; mark the test with `xdist_group("postgres")`, so that one server is enough."""
    with postgres_server.place() as place:
        yield place


@pytest.fixture(scope="session")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Certified:
    """Certificates of an authority that nobody but the tests trusts."""
    return certified_in(tmp_path_factory.mktemp("certified"))


@pytest.fixture(scope="session", autouse=True)
def _one_authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Each client would load all the world's authorities, which takes 30 ms; none of them vouches for a test."""
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    trustme.CA().cert_pem.write_to_path(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(path))
        yield


@pytest.fixture(scope="session", autouse=True)
def _loopback_only() -> Iterator[None]:
    """Refuse names and connections beyond loopback in this process; children are not covered."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", _guarded_lookup(socket.getaddrinfo))
        for method in ("connect", "connect_ex"):
            patch.setattr(socket.socket, method, _guarded_connect(getattr(socket.socket, method)))
        yield


def _guarded_lookup(lookup: Callable[..., Any]) -> Callable[..., Any]:
    def getaddrinfo(host: str | bytes | None, *args: Any, **kwargs: Any) -> Any:
        _refuse_beyond_loopback(host)
        return lookup(host, *args, **kwargs)

    return getaddrinfo


def _guarded_connect(connect: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(self: socket.socket, address: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            _refuse_beyond_loopback(address[0])
        return connect(self, address)

    return guarded


def _refuse_beyond_loopback(host: str | bytes | None) -> None:
    name = host.decode() if isinstance(host, bytes) else host
    if not name or name == "localhost" or _is_this_machine(name):
        return
    raise NetworkBlocked(
        f"tests may not reach {name!r}: serve it on 127.0.0.1 or replay a recording"
    )


def _is_this_machine(name: str) -> bool:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
