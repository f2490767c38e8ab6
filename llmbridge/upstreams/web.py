"""Search results and pages of the web, for `/web` and `/crawl`. Needs the extra `web`.

Source: the references of Tavily and Brave; `ddgs` asks DuckDuckGo and others without a key; RFC 9309 for robots.
"""

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from time import monotonic
from typing import Any
from urllib.parse import urldefrag, urljoin, urlsplit

import anyio
import anyio.to_thread
import httpx2

from llmbridge.errors import BridgeError, ConfigurationError, Forbidden, UpstreamError
from llmbridge.upstreams.guarded import Guard, Page, Resolve, origin_of, resolve
from llmbridge.wire.loose_json import is_object, objects, text

MOST_RESULTS = 20
MOST_DEPTH, MOST_PAGES = 3, 100
MOST_BYTES = 20 * 1024 * 1024
AT_ONCE = 2
AGENT = "llmbridge"
_TIMEOUT_S = 20.0
_RESULT_CHARS = 20_000


@dataclass(frozen=True, slots=True)
class SearchResult:
    """One result; `url` is http or https."""

    title: str
    url: str
    description: str = ""
    content: str = ""


def _results(rows: Sequence[tuple[str, str, str, str]], count: int) -> list[SearchResult]:
    """What strangers wrote, cut to size: addresses of pages only."""
    cut = [
        SearchResult(title[:500], url, words[:_RESULT_CHARS], (whole or words)[:_RESULT_CHARS])
        for title, url, words, whole in rows
        if urlsplit(url).scheme in ("http", "https")
    ]
    return cut[:count]


class DuckDuckGo:
    """Asks search engines that need no key, through `ddgs`."""

    def __init__(self, **options: Any) -> None:
        try:
            ddgs: Any = import_module("ddgs")
        except ImportError as error:
            raise ConfigurationError(
                "searching without a key needs ddgs: pip install llmbridge[web]"
            ) from error
        self._search = ddgs.DDGS(**options)

    async def __call__(self, query: str, count: int) -> list[SearchResult]:
        """Results, best first.

        Raises:
            UpstreamError: none could be had.
        """
        try:
            found = await anyio.to_thread.run_sync(
                lambda: self._search.text(query, max_results=count)
            )
        except Exception as error:
            raise UpstreamError(f"the search failed: {error}") from error
        rows = [
            (text(row.get("title")), text(row.get("href")), text(row.get("body")), "")
            for row in objects(found)
        ]
        return _results(rows, count)


@dataclass(frozen=True, slots=True)
class Tavily:
    """Asks Tavily with a key."""

    key: str = field(repr=False)
    base_url: str = "https://api.tavily.com"

    async def __call__(self, query: str, count: int) -> list[SearchResult]:
        """Results, best first.

        Raises:
            UpstreamError: none could be had; says with which status.
        """
        body = {"query": query, "max_results": count, "include_raw_content": True}
        answer = await _asked(
            "POST", f"{self.base_url}/search", {"authorization": f"Bearer {self.key}"}, body
        )
        rows = [
            (
                text(row.get("title")),
                text(row.get("url")),
                text(row.get("content")),
                text(row.get("raw_content")),
            )
            for row in objects(answer.get("results"))
        ]
        return _results(rows, count)


@dataclass(frozen=True, slots=True)
class Brave:
    """Asks Brave Search with a key."""

    key: str = field(repr=False)
    base_url: str = "https://api.search.brave.com"

    async def __call__(self, query: str, count: int) -> list[SearchResult]:
        """Results, best first.

        Raises:
            UpstreamError: none could be had; says with which status.
        """
        wanted = httpx2.QueryParams({"q": query, "count": count})
        url = f"{self.base_url}/res/v1/web/search?{wanted}"
        answer = await _asked("GET", url, {"x-subscription-token": self.key}, None)
        web = answer.get("web")
        rows = [
            (text(row.get("title")), text(row.get("url")), text(row.get("description")), "")
            for row in objects(web.get("results") if is_object(web) else None)
        ]
        return _results(rows, count)


@dataclass(frozen=True, slots=True)
class Recorded:
    """Answers from results that are known already, by query; another query finds nothing."""

    results: Mapping[str, Sequence[SearchResult]]

    async def __call__(self, query: str, count: int) -> list[SearchResult]:
        """The results of this query."""
        return list(self.results.get(query, ()))[:count]


async def _asked(method: str, url: str, headers: dict[str, str], body: Any) -> Mapping[str, Any]:
    async with httpx2.AsyncClient(trust_env=False, timeout=_TIMEOUT_S) as client:
        try:
            answer = await client.request(method, url, headers=headers, json=body)
            answer.raise_for_status()
            value = answer.json()
        except httpx2.HTTPStatusError as error:
            raise UpstreamError(f"the search answered {error.response.status_code}") from None
        except (httpx2.HTTPError, ValueError) as error:
            raise UpstreamError(f"the search failed: {error}") from None
    return value if is_object(value) else {}


@dataclass(frozen=True, slots=True)
class Crawled:
    """A page as Markdown; of one that failed, why."""

    url: str
    path: str
    content: str


class Crawler:
    """Walks one site breadth-first: same origin, robots obeyed, public addresses alone.

    `allow_origins` are let through although they are private: a documentation server in one's own network.
    """

    def __init__(
        self,
        allow_origins: Collection[str] = (),
        *,
        resolver: Resolve = resolve,
        timeout_s: float = 60.0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        missing = [name for name in ("bs4", "markdownify", "protego") if find_spec(name) is None]
        if missing:
            raise ConfigurationError(
                f"crawling needs {', '.join(missing)}: pip install llmbridge[web]"
            )
        self._guard = Guard(allow_origins, resolver=resolver)
        self._timeout_s = timeout_s
        self._clock = clock

    async def __call__(self, start_url: str, depth: int, limit: int) -> list[Crawled]:
        """The start page and what it links to, at most `depth` steps away and `limit` pages.

        Raises:
            Forbidden: the start is not on the open web, or robots may not come.
        """
        start_url = urldefrag(start_url).url
        await self._guard.pinned(start_url)
        allowed = await self._robots(start_url)
        if not allowed(start_url):
            raise Forbidden(f"robots.txt of {origin_of(start_url)} asks not to be crawled there")
        walk = _Walk(start_url, min(depth, MOST_DEPTH), min(limit, MOST_PAGES))
        until = self._clock() + self._timeout_s
        while (batch := walk.next_batch()) and self._clock() < until:
            async with anyio.create_task_group() as group:
                for place in batch:
                    group.start_soon(self._visit, walk, place, allowed)
        return walk.crawled

    async def _robots(self, start_url: str) -> Callable[[str], bool]:
        from protego import Protego  # noqa: PLC0415  # only in the extra

        try:
            page = await self._guard.get(urljoin(start_url, "/robots.txt"))
        except BridgeError:
            return lambda url: True
        rules = Protego.parse(page.text if page.status < 400 else "")
        return lambda url: bool(rules.can_fetch(url, AGENT))

    async def _visit(self, walk: "_Walk", place: "_Place", allowed: Callable[[str], bool]) -> None:
        if place.depth and not allowed(place.url):
            return
        try:
            page = await self._guard.get(place.url)
            if origin_of(page.url) != walk.origin:
                return
            if page.status >= 400:
                raise UpstreamError(f"the site answered {page.status}")
            words, links = _read_html(page)
        except BridgeError as error:
            walk.add(place, f"Failed to crawl: {error.message}", 0, ())
            return
        walk.add(place, words, page.size, links)


@dataclass(frozen=True, slots=True)
class _Place:
    url: str
    depth: int


class _Walk:
    """What was seen of a site, and what comes next."""

    def __init__(self, start_url: str, depth: int, limit: int) -> None:
        self.origin = origin_of(start_url)
        self._crawled: dict[int, Crawled] = {}
        self._order: dict[_Place, int] = {}
        self._depth, self._limit, self._bytes = depth, limit, 0
        self._seen = {start_url}
        self._waiting = deque([_Place(start_url, 0)])

    @property
    def crawled(self) -> list[Crawled]:
        return [page for _, page in sorted(self._crawled.items())]

    def next_batch(self) -> list[_Place]:
        batch: list[_Place] = []
        while self._waiting and len(batch) < AT_ONCE and len(self._order) < self._limit:
            if self._bytes > MOST_BYTES:
                break
            place = self._waiting.popleft()
            self._order[place] = len(self._order)
            batch.append(place)
        return batch

    def add(self, place: _Place, words: str, size: int, links: Collection[str]) -> None:
        self._bytes += size
        self._crawled[self._order[place]] = Crawled(
            place.url, urlsplit(place.url).path or "/", words
        )
        if place.depth >= self._depth:
            return
        for link in links:
            if link not in self._seen and origin_of(link) == self.origin:
                self._seen.add(link)
                self._waiting.append(_Place(link, place.depth + 1))


def _read_html(page: Page) -> tuple[str, list[str]]:
    """The page as Markdown without scripts and styles, and where it links to."""
    if "html" not in page.content_type:
        return page.text, []
    from bs4 import BeautifulSoup  # noqa: PLC0415  # only in the extra
    from markdownify import MarkdownConverter  # noqa: PLC0415

    soup = BeautifulSoup(page.text, "html.parser")
    for hidden in soup(["script", "style", "noscript", "template", "iframe"]):
        hidden.decompose()
    links = [
        urldefrag(urljoin(page.url, str(anchor["href"]))).url
        for anchor in soup.find_all("a", href=True)
    ]
    words = MarkdownConverter(heading_style="atx").convert_soup(soup.body or soup)
    return words.strip(), links
