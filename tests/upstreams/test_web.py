"""Search and crawl against real local servers; what is not on the open web is never connected to."""

import asyncio
import json
from collections.abc import Sequence
from threading import Event
from time import monotonic
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from llmbridge.errors import Forbidden, UpstreamError, UpstreamTimeout
from llmbridge.upstreams.guarded import Guard, is_public, origin_of
from llmbridge.upstreams.web import Brave, Crawled, Crawler, Recorded, SearchResult, Tavily
from tests.shared import SHARED, needs_shared


def html(body: str) -> str:
    return f"<html><head><style>x</style></head><body>{body}<script>alert(1)</script></body></html>"


def crawler(site: HTTPServer, **options: Any) -> Crawler:
    return Crawler([site.url_for("/")], **options)


def site_of(httpserver: HTTPServer, pages: dict[str, str], robots: str = "") -> HTTPServer:
    httpserver.expect_request("/robots.txt").respond_with_data(robots, content_type="text/plain")
    for path, body in pages.items():
        httpserver.expect_request(path).respond_with_data(html(body), content_type="text/html")
    return httpserver


def asked(site: HTTPServer) -> list[str]:
    return [request.path for request, _ in site.log if request.path != "/robots.txt"]


@pytest.mark.feature("calliope", 6)
async def test_a_site_is_walked_breadth_first_as_markdown(httpserver: HTTPServer) -> None:
    site = site_of(
        httpserver,
        {
            "/": '<h1>Home</h1><a href="/a">A</a> <a href="/b#part">B</a> <a href="/">Home</a>',
            "/a": '<p>Page <b>A</b></p><a href="/c">C</a>',
            "/b": "<p>Page B</p>",
            "/c": "<p>Page C</p>",
        },
    )

    pages = await crawler(site)(site.url_for("/"), 2, 50)

    assert [page.path for page in pages] == ["/", "/a", "/b", "/c"]
    assert pages[1] == Crawled(site.url_for("/a"), "/a", "Page **A**\n\n[C](/c)")
    assert "alert" not in pages[0].content


@pytest.mark.parametrize(
    ("depth", "limit", "paths"),
    [(1, 50, ["/", "/a"]), (2, 50, ["/", "/a", "/b"]), (3, 2, ["/", "/a"])],
)
async def test_depth_and_limit_are_respected(
    httpserver: HTTPServer, depth: int, limit: int, paths: list[str]
) -> None:
    site = site_of(httpserver, {"/": '<a href="/a">A</a>', "/a": '<a href="/b">B</a>', "/b": "B"})

    pages = await crawler(site)(site.url_for("/"), depth, limit)

    assert [page.path for page in pages] == paths


async def test_robots_are_obeyed(httpserver: HTTPServer) -> None:
    site = site_of(
        httpserver,
        {"/": '<a href="/private/x">X</a>', "/private/x": "secret"},
        "User-agent: *\nDisallow: /private/\n",
    )

    pages = await crawler(site)(site.url_for("/"), 2, 50)

    assert ([page.path for page in pages], asked(site)) == (["/"], ["/"])


async def test_a_start_that_robots_forbid_is_refused(httpserver: HTTPServer) -> None:
    site = site_of(httpserver, {"/": "x"}, "User-agent: *\nDisallow: /\n")

    with pytest.raises(Forbidden, match=r"robots\.txt"):
        await crawler(site)(site.url_for("/"), 2, 50)


async def test_other_origins_are_left_alone(httpserver: HTTPServer) -> None:
    with HTTPServer(port=0) as canary:
        site = site_of(httpserver, {"/": f'<a href="{canary.url_for("/x")}">X</a>'})

        pages = await crawler(site)(site.url_for("/"), 2, 50)

        assert ([page.path for page in pages], canary.log) == (["/"], [])


async def test_a_redirect_to_another_place_is_checked_anew(httpserver: HTTPServer) -> None:
    with HTTPServer(port=0) as canary:
        httpserver.expect_request("/robots.txt").respond_with_data("")
        httpserver.expect_request("/").respond_with_data(
            "", status=302, headers={"location": canary.url_for("/secret")}
        )

        pages = await crawler(httpserver)(httpserver.url_for("/"), 2, 50)

        assert (pages[0].content[:15], canary.log) == ("Failed to crawl", [])


async def test_redirects_end(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/").respond_with_data("", status=302, headers={"location": "/"})

    with pytest.raises(UpstreamError, match="more than 5 redirects"):
        await Guard([httpserver.url_for("/")]).get(httpserver.url_for("/"))


@pytest.mark.feature("calliope", 21)
async def test_a_page_that_leads_to_another_origin_is_not_followed_there(
    httpserver: HTTPServer,
) -> None:
    with HTTPServer(port=0) as other:
        site = site_of(httpserver, {"/": '<a href="/a">A</a>'})
        moved = {"location": other.url_for("/inner")}
        site.expect_request("/a").respond_with_data("", status=302, headers=moved)

        pages = await Crawler([site.url_for("/"), other.url_for("/")])(site.url_for("/"), 2, 50)

        assert ([page.path for page in pages], other.log) == (["/"], [])


async def test_a_start_that_has_moved_is_begun_anew_by_the_other_site_s_robots(
    httpserver: HTTPServer,
) -> None:
    with HTTPServer(port=0) as other:
        moved = {"location": other.url_for("/docs")}
        site_of(httpserver, {})
        httpserver.expect_request("/").respond_with_data("", status=301, headers=moved)
        pages = {"/docs": '<a href="/x">X</a> <a href="/y">Y</a>', "/y": "Y"}
        site_of(other, pages, "User-agent: *\nDisallow: /x\n")

        crawl = Crawler([httpserver.url_for("/"), other.url_for("/")])
        seen = await crawl(httpserver.url_for("/"), 2, 50)

        assert [page.url for page in seen] == [other.url_for("/docs"), other.url_for("/y")]
        assert asked(other) == ["/docs", "/y"]


async def test_two_sites_that_move_to_each_other_end(httpserver: HTTPServer) -> None:
    with HTTPServer(port=0) as other:
        for site, to in ((httpserver, other), (other, httpserver)):
            moved = {"location": to.url_for("/")}
            site_of(site, {}).expect_request("/").respond_with_data("", status=301, headers=moved)
        crawl = Crawler([httpserver.url_for("/"), other.url_for("/")])

        with pytest.raises(UpstreamError, match="moves more than 5 times"):
            await crawl(httpserver.url_for("/"), 2, 50)


async def test_a_redirect_does_not_lead_round_robots(httpserver: HTTPServer) -> None:
    site = site_of(httpserver, {"/": '<a href="/a">A</a>'}, "User-agent: *\nDisallow: /private/\n")
    moved = {"location": "/private/x"}
    site.expect_request("/a").respond_with_data("", status=302, headers=moved)

    pages = await crawler(site)(site.url_for("/"), 2, 50)

    assert ([page.path for page in pages], asked(site)) == (["/"], ["/", "/a"])


async def test_robots_that_cannot_be_had_forbid_everything(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/robots.txt").respond_with_data("", status=503)

    with pytest.raises(Forbidden, match=r"robots\.txt"):
        await crawler(httpserver)(httpserver.url_for("/"), 2, 50)


async def test_links_that_are_no_urls_stop_nothing(httpserver: HTTPServer) -> None:
    bad = ["http://[x", "/a\x01b", "javascript:alert(1)", "http://x:99999/", "//", "/%zz"]
    links = "".join(f'<a href="{link}">x</a>' for link in [*bad, "/good"])
    site = site_of(httpserver, {"/": links, "/good": "Good"})

    pages = await crawler(site)(site.url_for("/"), 1, 50)

    assert Crawled(site.url_for("/good"), "/good", "Good") in pages


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("<div>" * 20_000, "Failed to convert HTML to Markdown"),
        ("<a " * 100_000, ""),
        ("<!-" * 100_000, ""),
    ],
    ids=["nested", "open tags", "open comments"],
)
async def test_a_hostile_page_is_dealt_with_at_once(
    httpserver: HTTPServer, body: str, said: str
) -> None:
    site = site_of(httpserver, {"/": body})

    pages = await crawler(site)(site.url_for("/"), 0, 1)

    assert [page.content[: len(said)] for page in pages] == [said]


async def test_a_crawl_that_is_out_of_time_gives_what_it_has(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, let_go = site_of(httpserver, {"/": '<a href="/slow">S</a>'}), Event()
    loop = asyncio.get_running_loop()

    def slow(request: Request) -> Response:
        # A hundred seconds pass at once.
        loop.call_soon_threadsafe(monkeypatch.setattr, loop, "time", lambda: monotonic() + 100)
        let_go.wait(20)
        return Response("late", content_type="text/html")

    site.expect_request("/slow").respond_with_handler(slow)
    try:
        pages = await crawler(site, timeout_s=60, page_s=1000)(site.url_for("/"), 2, 50)
    finally:
        let_go.set()

    assert [page.path for page in pages] == ["/"]


async def test_a_page_that_takes_too_long_is_named(httpserver: HTTPServer) -> None:
    let_go = Event()

    def slow(request: Request) -> Response:
        let_go.wait(20)
        return Response("late", content_type="text/html")

    httpserver.expect_request("/").respond_with_handler(slow)
    try:
        with pytest.raises(UpstreamTimeout, match=r"longer than 0\.2 s"):
            await Guard([httpserver.url_for("/")], timeout_s=0.2).get(httpserver.url_for("/"))
    finally:
        let_go.set()


async def test_a_host_that_cannot_be_is_refused() -> None:
    with pytest.raises(UpstreamError, match="is not known"):
        await Guard().get("http://\ud800/")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"content_type": "image/png"}, "is no text"),
        ({"content_type": "text/html", "headers": {"content-encoding": "gzip"}}, "compressed"),
        ({"content_type": "text/html", "status": 500}, "answered 500"),
    ],
)
async def test_what_is_no_page_is_named(
    httpserver: HTTPServer, options: dict[str, Any], said: str
) -> None:
    httpserver.expect_request("/robots.txt").respond_with_data("")
    headers = {**options.pop("headers", {}), "content-type": options.pop("content_type")}
    httpserver.expect_request("/").respond_with_data("x", headers=headers, **options)

    pages = await crawler(httpserver)(httpserver.url_for("/"), 2, 50)

    assert said in pages[0].content


async def test_a_page_that_is_too_large_is_left(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/").respond_with_data("x" * 5000, content_type="text/html")
    guard = Guard([httpserver.url_for("/")], page_bytes=4096)

    with pytest.raises(UpstreamError, match="larger than 4,096"):
        await guard.get(httpserver.url_for("/"))


def vectors() -> list[dict[str, Any]]:
    if SHARED is None:
        return []
    text = (SHARED / "conformance" / "security" / "basic.json").read_text("utf-8")
    found: list[dict[str, Any]] = json.loads(text)["urls"]
    return found


@needs_shared
@pytest.mark.feature("calliope", 21)
@pytest.mark.parametrize("vector", vectors(), ids=lambda vector: vector["why"])
async def test_only_the_open_web_is_connected_to(vector: dict[str, Any]) -> None:
    answers = vector.get("resolves_to", [])

    async def resolver(host: str, port: int) -> Sequence[str]:
        return answers[0] if answers else [host.strip("[]")]

    guard = Guard(resolver=resolver)

    if vector["expect"] == "allow":
        _, address = await guard.pinned(vector["url"])
        assert is_public(address)
    else:
        with pytest.raises(Forbidden):
            await guard.pinned(vector["url"])


async def test_a_name_that_changes_its_mind_is_connected_to_where_it_was_checked() -> None:
    answers = iter([["93.184.216.34"], ["127.0.0.1"]])

    async def resolver(host: str, port: int) -> Sequence[str]:
        return next(answers)

    guard = Guard(resolver=resolver)

    assert await guard.pinned("https://example.com/") == ("example.com", "93.184.216.34")
    with pytest.raises(Forbidden):
        await guard.pinned("https://example.com/")


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("127.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("2002:7f00:1::", False),
        ("::7f00:1", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("fe80::1%eth0", False),
        ("not an address", False),
    ],
)
def test_wrapped_addresses_are_unwrapped(address: str, public: bool) -> None:
    assert is_public(address) is public


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://Example.com", "https://example.com:443"),
        ("http://x:8080/a", "http://x:8080"),
        ("http://x:99999", ""),
        ("nothing", ""),
    ],
)
def test_an_origin_has_one_spelling(url: str, origin: str) -> None:
    assert origin_of(url) == origin


# Searching


@pytest.mark.feature("calliope", 5)
async def test_tavily_is_asked_with_its_key(httpserver: HTTPServer) -> None:
    rows = [
        {"title": "T", "url": "https://x", "content": "words", "raw_content": "all of it"},
        {"title": "Bad", "url": "javascript:alert(1)", "content": "no"},
        {"title": "Worse", "url": "http://[x", "content": "no"},
    ]
    httpserver.expect_request("/search").respond_with_json({"results": rows})

    found = await Tavily("key-1", httpserver.url_for("").rstrip("/"))("what", 5)

    request = httpserver.log[0][0]
    assert found == [SearchResult("T", "https://x", "words", "all of it")]
    assert (request.headers["authorization"], request.get_json()["max_results"]) == (
        "Bearer key-1",
        5,
    )


@pytest.mark.feature("calliope", 5)
async def test_brave_is_asked_with_its_key(httpserver: HTTPServer) -> None:
    rows = {"web": {"results": [{"title": "T", "url": "https://x", "description": "words"}]}}
    httpserver.expect_request("/res/v1/web/search").respond_with_json(rows)

    found = await Brave("key-1", httpserver.url_for("").rstrip("/"))("what & why", 5)

    request = httpserver.log[0][0]
    assert found == [SearchResult("T", "https://x", "words", "words")]
    assert (request.headers["x-subscription-token"], request.args["q"]) == ("key-1", "what & why")


@pytest.mark.parametrize("kind", [Tavily, Brave])
async def test_a_search_that_fails_says_with_which_status(
    httpserver: HTTPServer, kind: type[Tavily | Brave]
) -> None:
    httpserver.expect_request("/search").respond_with_data("", status=401)
    httpserver.expect_request("/res/v1/web/search").respond_with_data("", status=401)
    search = kind("key-1", httpserver.url_for("").rstrip("/"))

    with pytest.raises(UpstreamError, match="answered 401"):
        await search("what", 5)

    assert "key-1" not in repr(search)


async def test_recorded_results_answer_their_query_alone() -> None:
    search = Recorded({"what": [SearchResult("T", "https://x")]})

    assert [len(await search(query, 5)) for query in ("what", "else")] == [1, 0]
