"""Search results and pages of the web, for `/web` and `/crawl`. Needs the extra `web`.

Source: the references of Tavily and Brave; `ddgs` asks DuckDuckGo and others without a key; RFC 9309 for robots.
"""

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any
from urllib.parse import urldefrag, urljoin, urlsplit

import anyio
import anyio.to_thread
import httpx2

from llmbridge.errors import (
    BridgeError,
    ConfigurationError,
    Forbidden,
    UpstreamError,
    UpstreamLimit,
)
from llmbridge.upstreams.guarded import (
    PAGE_BYTES,
    REDIRECTS,
    Elsewhere,
    Guard,
    Page,
    Resolve,
    origin_of,
    resolve,
)
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
        if origin_of(url).startswith(("http://", "https://"))
    ]
    return cut[:count]


class DuckDuckGo:
    """Asks search engines that need no key, through `ddgs`."""

    def __init__(self, **options: Any) -> None:
        try:
            ddgs: Any = import_module("ddgs")
        except ImportError as error:
            raise ConfigurationError(
                "searching without a key needs ddgs: pip install 'llmbridge[web]'"
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
            if str(error) == "No results found.":
                return []
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
        page_s: float = 20.0,
    ) -> None:
        missing = [
            name for name in ("bs4", "lxml", "markdownify", "protego") if find_spec(name) is None
        ]
        if missing:
            raise ConfigurationError(
                f"crawling needs {', '.join(missing)}: pip install 'llmbridge[web]'"
            )
        self._guard = Guard(allow_origins, resolver=resolver, timeout_s=page_s)
        self._timeout_s = timeout_s

    async def __call__(self, start_url: str, depth: int, limit: int) -> list[Crawled]:
        """The start page and what it links to, at most `depth` steps away and `limit` pages; what was had in time.

        A start that moved to another origin, as `http` does to `https`, is begun anew there.

        Raises:
            Forbidden: the start is not on the open web, or robots may not come.
        """
        walk = _Walk(urldefrag(start_url).url, min(depth, MOST_DEPTH), min(limit, MOST_PAGES))
        with anyio.move_on_after(self._timeout_s):
            for _ in range(REDIRECTS + 1):
                await self._walked(walk)
                if walk.moved_to is None:
                    break
                walk = walk.anew(walk.moved_to)
            else:
                raise UpstreamError(f"{start_url[:200]!r} moves more than {REDIRECTS} times")
        return walk.crawled

    async def _walked(self, walk: "_Walk") -> None:
        await self._guard.pinned(walk.start_url)
        allowed = await self._robots(walk.start_url)
        if not allowed(walk.start_url):
            raise Forbidden(f"robots.txt of {walk.origin} asks not to be crawled there")
        while batch := walk.next_batch():
            async with anyio.create_task_group() as group:
                for place in batch:
                    group.start_soon(self._visit, walk, place, allowed)

    async def _robots(self, start_url: str) -> Callable[[str], bool]:
        from protego import Protego  # noqa: PLC0415  # only in the extra

        try:
            page = await self._guard.get(urljoin(start_url, "/robots.txt"))
        except BridgeError:
            return lambda url: True
        if page.status >= 500:
            # RFC 9309, 2.3.1.4: rules that are there but cannot be had forbid everything.
            return lambda url: False
        rules = Protego.parse(page.text if page.status < 400 else "")
        return lambda url: bool(rules.can_fetch(url, AGENT))

    async def _visit(self, walk: "_Walk", place: "_Place", allowed: Callable[[str], bool]) -> None:
        if not allowed(place.url):
            return
        try:
            page = await self._guard.get(
                place.url, follow=lambda url: origin_of(url) == walk.origin and allowed(url)
            )
            if page.status >= 400:
                raise UpstreamError(f"the site answered {page.status}")
            words, links = await anyio.to_thread.run_sync(_read_html, page, abandon_on_cancel=True)
        except Elsewhere as moved:
            if place.depth == 0:
                await self._move(walk, place, moved.url)
        except BridgeError as error:
            size = PAGE_BYTES if isinstance(error, UpstreamLimit) else 0
            walk.add(place, f"Failed to crawl: {error.message}", size, ())
        else:
            walk.add(place, words, page.size, links)

    async def _move(self, walk: "_Walk", place: "_Place", url: str) -> None:
        """Begin anew at `url`, when that may be reached."""
        try:
            await self._guard.pinned(url)
        except BridgeError as error:
            walk.add(place, f"Failed to crawl: {error.message}", 0, ())
        else:
            walk.moved_to = urldefrag(url).url


@dataclass(frozen=True, slots=True)
class _Place:
    url: str
    depth: int


class _Walk:
    """What was seen of a site, and what comes next."""

    def __init__(self, start_url: str, depth: int, limit: int) -> None:
        self.start_url, self.origin = start_url, origin_of(start_url)
        self.moved_to: str | None = None
        self._crawled: dict[int, Crawled] = {}
        self._order: dict[_Place, int] = {}
        self._depth, self._limit, self._bytes = depth, limit, 0
        self._seen = {start_url}
        self._waiting = deque([_Place(start_url, 0)])

    def anew(self, start_url: str) -> "_Walk":
        """The same walk from another start."""
        return _Walk(start_url, self._depth, self._limit)

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

    # Python's own parser takes hours for a page of half-open tags.
    soup = BeautifulSoup(page.text, "lxml")
    for hidden in soup(["script", "style", "noscript", "template", "iframe"]):
        hidden.decompose()
    hrefs = [str(anchor["href"]) for anchor in soup.find_all("a", href=True)]
    try:
        words = MarkdownConverter(heading_style="atx").convert_soup(soup.body or soup)
    except RecursionError:
        words = "Failed to convert HTML to Markdown: the page is nested too deeply"
    return words.strip(), [link for href in hrefs if (link := _link(page.url, href))]


def _link(page_url: str, href: str) -> str:
    """Where a link leads, without its fragment; empty where that is no URL."""
    try:
        return urldefrag(urljoin(page_url, href)).url
    except ValueError:
        return ""
