"""`llmbridge demo`: a server that replays the bundled sessions, and a client that watches the replies grow."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import monotonic

import httpx2

from llmbridge.bridge import Bridge
from llmbridge.canon.events import Snapshot
from llmbridge.cli.drawing import (
    Progress,
    draw_interceptions,
    draw_lines,
    draw_live,
    draw_usage,
)
from llmbridge.cli.screen import console_for
from llmbridge.exchange.call import Headers
from llmbridge.exchange.codec import ReplyDecoder, Step
from llmbridge.exchange.entry import prompt_of
from llmbridge.exchange.record import Record
from llmbridge.providers import dialect_named
from llmbridge.upstreams.replay import Replay

SESSIONS = Path(__file__).resolve().parents[1] / "demo"

_NEXT = """\
What next:
  llmbridge serve --help                   a server for clients of your own
  llmbridge serve --replay session.yaml    your own recordings as a fake provider
  from llmbridge import Bridge; client = Bridge().anthropic()     in your own code
"""


def demonstrate(speed: float, *, live: bool) -> None:
    """Stream every bundled session through a real server, then show what the bridge knows about it.

    Raises:
        ConfigurationError: `speed` is negative.
    """
    console = console_for(live=live)
    draw = draw_live if live else draw_lines
    replay = Replay(SESSIONS, speed=speed)
    with (
        Bridge(replay) as bridge,
        bridge.serve() as server,
        # No proxy: the server is on this machine.
        httpx2.Client(base_url=server.url, timeout=60, trust_env=False) as client,
    ):
        pace = f"at {speed:g} times their speed" if speed else "at once"
        console.print(f"Recorded sessions, replayed {pace} by {server.url}: no key, no network.")
        for record in replay.store:
            console.print()
            console.print(f"> {prompt_of(record)}")
            draw(console, watch(client, record))
        console.print()
        draw_interceptions(console, bridge.frames.interceptions())
        console.print()
        draw_usage(console, bridge.frames.token_usage())
    console.print()
    console.print(_NEXT, end="", soft_wrap=True)


def watch(client: httpx2.Client, record: Record) -> Iterator[Progress]:
    """Send the recorded request and tell, event by event, how far the reply has come."""
    assert record.request is not None, "the bundled sessions keep their requests"
    dialect = dialect_named(record.dialect)
    path = f"/{record.provider}{dialect.path}"
    snapshot, began = Snapshot(), monotonic()
    progress = Progress(record.provider, record.model or "", path)
    yield progress
    with client.stream(
        "POST", path, content=record.request.body, headers=record.request.headers.pairs
    ) as response:
        headers = Headers(response.headers.multi_items())
        decoder = ReplyDecoder(dialect, response.status_code, headers)
        for sse, deltas in _steps(decoder, response.iter_raw()):
            now = monotonic() - began
            progress = replace(
                progress,
                status=response.status_code,
                events=progress.events + (sse is not None),
                first_byte_s=progress.first_byte_s or now,
                elapsed_s=now,
            )
            for delta in deltas:
                event = snapshot.apply(delta)
                yield replace(progress, delta=delta, message=event.partial)
            progress = replace(progress, message=snapshot.message)
    yield replace(progress, done=True)


def _steps(decoder: ReplyDecoder, chunks: Iterator[bytes]) -> Iterator[Step]:
    for chunk in chunks:
        yield from decoder.feed(chunk)
    yield from decoder.close()
