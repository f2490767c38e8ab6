"""A recording as a fake provider, over the loopback."""

import contextlib
import json
import tempfile
from pathlib import Path

from tests.bench.programs import Load, fake_provider, interleaved, python_server
from tests.bench.sessions import Exchange, anthropic_events, anthropic_json, write_cassette
from tests.bench.table import Plan, Table

REFERENCE = "uvicorn, canned"

LOADS = {
    "json": Load("bench", streaming=False),
    "short": Load("bench-200-0-16", events=205),
    "long": Load("bench-50000-0-16", events=50_005, connections=1),
}

URL = "https://api.anthropic.com/v1/messages"


def recorded(load: Load) -> Exchange:
    """What the fake provider would have answered to this load."""
    if not load.streaming:
        return Exchange(URL, load.body, "application/json", anthropic_json())
    body = b"".join(anthropic_events(load.events - 5))
    return Exchange(URL, load.body, "text/event-stream; charset=utf-8", body)


def replay(plan: Plan) -> Table:
    """A cassette that is served at full speed, beside a server that knows its bytes by heart."""
    exchanges = {load.model: recorded(load) for load in LOADS.values()}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        path = write_cassette(Path(folder) / "session.yaml", exchanges.values())
        canned = Path(folder) / "canned.json"
        canned.write_text(
            json.dumps({m: [e.content_type, e.body.decode()] for m, e in exchanges.items()})
        )
        servers = [
            stack.enter_context(fake_provider()),
            stack.enter_context(python_server(REFERENCE, "reference", "canned", str(canned))),
            stack.enter_context(python_server("llmbridge", "served", "replay", str(path))),
        ]
        seen = interleaved(servers, LOADS, plan.seconds, plan.rounds)
    figures = {
        name: {
            "CPU us/request": by["json"]["cpu_us_request"],
            "CPU us/event": by["short"]["cpu_us_event"],
            "CPU us/event, 50,000 events": by["long"]["cpu_us_event"],
            "requests/s": by["json"]["req_s"],
            "events/s": by["short"]["events_s"],
            "events/s, 50,000 events": by["long"]["events_s"],
            "first byte of 50,000 events, us": by["long"]["ttfb_us_p50"],
        }
        for name, by in seen.items()
    }
    note = "32 clients, replies of 200 events unless said; direct: a fake provider in C"
    return Table("Replay", figures, baseline=REFERENCE, note=note)
