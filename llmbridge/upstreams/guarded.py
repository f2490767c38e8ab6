"""Pages of the open web, and nothing else: every address is checked after resolving, and the checked one is used.

Source: RFC 6890 for addresses that are not global; RFC 4291, 6052, 3056 and 4380 for IPv4 inside IPv6.
"""

import ipaddress
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import anyio
import httpx2

from llmbridge.errors import Forbidden, UpstreamError, UpstreamLimit, UpstreamTimeout

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host, as text."""

REDIRECTS = 5
PAGE_BYTES = 2 * 1024 * 1024
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_COMPATIBLE = ipaddress.ip_network("::/96")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Page:
    """What was found at `url`, after redirects; `text` is decoded."""

    url: str
    status: int
    content_type: str
    text: str
    size: int


class Elsewhere(UpstreamError):
    """A redirect to where its asker does not go: `url`."""

    def __init__(self, url: str) -> None:
        super().__init__(f"the page has moved to {url[:200]!r}")
        self.url = url


async def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses that this machine knows for a host."""
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[4][0]) for address in found]


def origin_of(url: str) -> str:
    """`scheme://host:port` in one spelling; empty where there is none."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.hostname}:{port}" if parts.hostname else ""


def is_public(address: str) -> bool:
    """True for an address of the open internet, also where IPv4 is wrapped into IPv6."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    inner: list[ipaddress.IPv4Address | ipaddress.IPv6Address] = [ip]
    if isinstance(ip, ipaddress.IPv6Address):
        wrapped = (ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ()))
        inner += [each for each in wrapped if each is not None]
        if ip in _NAT64 or ip in _COMPATIBLE:
            inner.append(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
    return all(each.is_global and not each.is_multicast for each in inner)


class Guard:
    """Fetches pages of public addresses; `allow_origins` are let through wherever they lead.

    Redirects are followed a few times, each of them checked anew. No cookies, no environment proxies.
    """

    def __init__(
        self,
        allow_origins: Collection[str] = (),
        *,
        resolver: Resolve = resolve,
        timeout_s: float = 20.0,
        page_bytes: int = PAGE_BYTES,
    ) -> None:
        self._allowed = {origin_of(origin) for origin in allow_origins}
        self._resolve = resolver
        self._timeout_s = timeout_s
        self._page_bytes = page_bytes

    async def pinned(self, url: str) -> tuple[str, str]:
        """The URL's host, and the checked address to connect to.

        Raises:
            Forbidden: the URL is not one of the open web.
        """
        try:
            parts = urlsplit(url)
            port = parts.port or _PORTS.get(parts.scheme, 0)
            host = parts.hostname or ""
        except ValueError:
            raise Forbidden(f"this is no URL: {url[:200]!r}") from None
        if parts.scheme not in _PORTS or not host:
            raise Forbidden(f"only http and https are crawled, not {url[:200]!r}")
        if parts.username or parts.password:
            raise Forbidden("a URL that holds a password is not crawled")
        if origin_of(url) in self._allowed:
            return host, host
        if port not in _PORTS.values():
            raise Forbidden(f"only ports 80 and 443 are crawled, not {port}")
        try:
            addresses = await self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise UpstreamError(f"{host[:200]!r} is not known: {error}") from None
        if not addresses or not all(is_public(address) for address in addresses):
            raise Forbidden(f"{host!r} is not on the open internet, so it is not crawled")
        return host, addresses[0]

    async def get(self, url: str, *, follow: Callable[[str], bool] = lambda url: True) -> Page:
        """The page, redirects followed where `follow` agrees; all of it within the guard's time.

        Raises:
            Forbidden: it, or where it leads, is not on the open web.
            Elsewhere: it leads where `follow` does not.
            UpstreamError: it cannot be reached in time, or is no text.
        """
        try:
            with anyio.fail_after(self._timeout_s):
                return await self._get(url, follow)
        except TimeoutError:
            raise UpstreamTimeout(f"the page took longer than {self._timeout_s:g} s") from None

    async def _get(self, url: str, follow: Callable[[str], bool]) -> Page:
        for _ in range(REDIRECTS + 1):
            async with self._opened(url) as answer:
                if answer.status_code not in (301, 302, 303, 307, 308):
                    return await self._read(url, answer)
                try:
                    url = urljoin(url, answer.headers.get("location", ""))
                except ValueError:
                    raise UpstreamError("the page has moved to what is no URL") from None
            if not follow(url):
                raise Elsewhere(url)
        raise UpstreamError(f"more than {REDIRECTS} redirects")

    @asynccontextmanager
    async def _opened(self, url: str) -> AsyncGenerator[httpx2.Response]:
        host, address = await self.pinned(url)
        try:
            target = httpx2.URL(url)
        except (httpx2.InvalidURL, UnicodeError):
            raise Forbidden(f"this is no URL: {url[:200]!r}") from None
        headers = {"accept": "text/html, text/plain;q=0.9", "accept-encoding": "identity"}
        headers["host"] = target.netloc.decode()
        request = httpx2.Request(
            "GET",
            target.copy_with(host=address),
            headers=headers,
            extensions={
                "sni_hostname": host,
                "timeout": httpx2.Timeout(self._timeout_s).as_dict(),
            },
        )
        async with AsyncExitStack() as stack:
            client = httpx2.AsyncClient(trust_env=False, follow_redirects=False)
            await stack.enter_async_context(client)
            try:
                answer = await client.send(request, stream=True)
            except (httpx2.HTTPError, OSError) as error:
                raise UpstreamError(f"{host!r} cannot be reached: {error}") from None
            stack.push_async_callback(answer.aclose)
            yield answer

    async def _read(self, url: str, answer: httpx2.Response) -> Page:
        kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind and not kind.startswith("text/") and "xml" not in kind:
            raise UpstreamError(f"{kind!r} is no text")
        if answer.headers.get("content-encoding", "identity") != "identity":
            # It was asked not to; a small answer may hold a very large page.
            raise UpstreamError("the page is compressed although it was asked for as it is")
        held = bytearray()
        try:
            async for piece in answer.aiter_raw():
                held += piece
                if len(held) > self._page_bytes:
                    raise UpstreamLimit(f"the page is larger than {self._page_bytes:,} bytes")
        except httpx2.HTTPError as error:
            raise UpstreamError(f"the page broke off: {error}") from None
        charset = answer.charset_encoding or "utf-8"
        try:
            words = held.decode(charset, "replace")
        except LookupError:
            words = held.decode("utf-8", "replace")
        return Page(url, answer.status_code, kind, words, len(held))
