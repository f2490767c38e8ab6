"""A recording as a fake provider, over the loopback."""

import contextlib
import json
import tempfile
from pathlib import Path

from tests.bench.aimock import AimockMissing, aimock, installed
from tests.bench.programs import Load, Program, fake_provider, interleaved, python_server
from tests.bench.sessions import Exchange, anthropic_events, anthropic_json, write_cassette
from tests.bench.table import Plan, Table

REFERENCE = "uvicorn, canned"

Server = contextlib.AbstractContextManager[Program]

LOADS = {
    "json": Load("bench", streaming=False),
    "short": Load("bench-10-0-16", events=15),
    "burst": Load("bench-200-0-16", events=205),
    "long": Load("bench-50000-0-16", events=50_005, connections=1),
}

URL = "https://api.anthropic.com/v1/messages"
# As the fake provider in C has it, so that all send as much.
PIECE = " lorem ipsum"


def recorded(load: Load) -> Exchange:
    """What the fake provider would have answered to this load."""
    if not load.streaming:
        return Exchange(URL, load.body, "application/json", anthropic_json())
    deltas = load.events - 5
    body = b"".join(anthropic_events(deltas, [PIECE] * deltas))
    return Exchange(URL, load.body, "text/event-stream; charset=utf-8", body)


def text_of(load: Load) -> str:
    return PIECE * (load.events - 5) if load.streaming else "Hello from the bench."


def replay(plan: Plan) -> Table:
    """A cassette that is served at full speed, beside aimock and a server that knows its bytes by heart."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        servers = [stack.enter_context(fake_provider())]
        note = "32 clients, one for 50,000 events; direct: a fake provider in C; aims: aimock's rates or more, first byte under 5,000 us"
        try:
            servers.append(stack.enter_context(rival(Path(folder))))
        except AimockMissing as missing:
            note += f"; {missing}"
        servers += [stack.enter_context(server) for server in ours(Path(folder))]
        seen = interleaved(servers, LOADS, plan.seconds, plan.rounds)
    figures = {
        name: {
            "CPU us/request": by["json"]["cpu_us_request"],
            "CPU us/event": by["burst"]["cpu_us_event"],
            "CPU us/event, 50,000 events": by["long"]["cpu_us_event"],
            "requests/s": by["json"]["req_s"],
            "requests/s, streams of 15 events": by["short"]["req_s"],
            "events/s, streams of 205 events": by["burst"]["events_s"],
            "events/s, 50,000 events": by["long"]["events_s"],
            "first byte of 50,000 events, us": by["long"]["ttfb_us_p50"],
        }
        for name, by in seen.items()
    }
    return Table(
        "Replay", figures, baseline="aimock" if "aimock" in figures else REFERENCE, note=note
    )


def rival(folder: Path) -> Server:
    texts = {load.model: text_of(load) for load in LOADS.values()}
    return aimock(installed(), folder / "aimock.json", texts, len(PIECE))


def ours(folder: Path) -> tuple[Server, Server]:
    """The yardstick and the replay, of one cassette."""
    exchanges = {load.model: recorded(load) for load in LOADS.values()}
    path = write_cassette(folder / "session.yaml", exchanges.values())
    canned = folder / "canned.json"
    canned.write_text(
        json.dumps({m: [e.content_type, e.body.decode()] for m, e in exchanges.items()})
    )
    return (
        python_server(REFERENCE, "reference", "canned", str(canned)),
        python_server("llmbridge", "served", "replay", str(path)),
    )
