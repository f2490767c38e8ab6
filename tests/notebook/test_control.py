"""The door on loopback that a page takes when the kernel is busy."""

import httpx2
import pytest

from llmbridge.notebook.control import Control


async def test_who_has_the_token_stops_a_call() -> None:
    stopped: list[str] = []

    def stop(id: str) -> bool:
        stopped.append(id)
        return True

    control = Control(stop)
    await control.open()

    async with httpx2.AsyncClient() as client:
        reply = await client.post(f"{control.url}/a%2Fb")
    await control.close()

    assert (reply.status_code, stopped) == (204, ["a/b"])


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/wrong/stop/i1", {}, 404),
        ("POST", "/", {}, 404),
        ("GET", "/token/stop/i1", {}, 405),
        ("POST", "/token/stop/gone", {}, 410),
        ("POST", "/token/stop/i1", {"host": "evil.example"}, 421),
    ],
)
async def test_nobody_else_does(
    method: str, path: str, headers: dict[str, str], status: int
) -> None:
    stopped: list[str] = []

    def stop(id: str) -> bool:
        stopped.append(id)
        return id == "i1"

    control = Control(stop, token="token")
    await control.open()
    origin = control.url.removesuffix("/token/stop")

    async with httpx2.AsyncClient() as client:
        reply = await client.request(method, origin + path, headers=headers)
    await control.close()

    assert (reply.status_code, "i1" in stopped) == (status, False)


async def test_a_request_without_end_is_cut_off() -> None:
    control = Control(lambda id: True)
    await control.open()

    async with httpx2.AsyncClient() as client:
        with pytest.raises(httpx2.TransportError):
            await client.post(control.url, headers={"x": "y" * 20_000})
    await control.close()

    assert (control.url, repr(control)) == ("", "Control(closed)")
