"""What a relay adds: a client, a server under test, and a provider that is never the bottleneck."""

import contextlib

from tests.bench.programs import Load, fake_provider, interleaved, python_server
from tests.bench.table import Plan, Table

REFERENCE = "uvicorn+aiohttp"

LOADS = {
    "json": Load("bench", streaming=False),
    # As fast as the reader takes them: what the relay itself can do.
    "burst": Load("bench-200-0-16", events=205),
    # One event each 10 ms, each in its own packet: what providers do.
    "paced": Load("bench-50-10000-1", events=55, ramp_ms=300),
    # 25,000 events/s, as many as 250 such streams, from fewer clients than a bridge refuses.
    "crowd": Load("bench-200-1280-1", events=205, ramp_ms=200),
}

# The wire forms' paths, and the events of a stream of 200 deltas.
WIRES = {
    "messages": Load("bench-200-0-16", path="/v1/messages", events=205),
    "chat": Load("bench-200-0-16", path="/v1/chat/completions", events=203),
    "responses": Load("bench-200-0-16", path="/v1/responses", events=208),
}


def relay(plan: Plan) -> Table:
    """Requests, bursts and paced streams through a relay, beside the direct way."""
    with contextlib.ExitStack() as stack:
        direct = stack.enter_context(fake_provider())
        upstream = f"http://127.0.0.1:{direct.port}"
        servers = [
            direct,
            stack.enter_context(python_server(REFERENCE, "reference", "relay", upstream)),
            stack.enter_context(python_server("llmbridge", "served", "relay", upstream)),
        ]
        seen = interleaved(servers, LOADS, plan.seconds, plan.rounds)
        memory = {s.name: s.peak_mb for s in servers}

    floor = seen[direct.name]["paced"]
    figures = {
        name: {
            "CPU us/request": by["json"]["cpu_us_request"],
            "CPU us/event, burst": by["burst"]["cpu_us_event"],
            "CPU us/event, crowd": by["crowd"]["cpu_us_event"],
            "requests/s": by["json"]["req_s"],
            "events/s, burst": by["burst"]["events_s"],
            "events/s, crowd": by["crowd"]["events_s"],
            "first byte, added us": by["paced"]["ttfb_us_p50"] - floor["ttfb_us_p50"],
            "event, added us": by["paced"]["event_us_p50"] - floor["event_us_p50"],
            "event p99, us": by["paced"]["event_us_p99"],
            "peak memory, MB": memory[name],
        }
        for name, by in seen.items()
    }
    return Table(
        "Relay",
        figures,
        baseline=REFERENCE,
        note="32 clients; crowd: 25,000 events/s; added: to no relay, an event each 10 ms",
    )


def wires(plan: Plan) -> Table:
    """CPU time of one event in a burst, for each wire form."""
    with contextlib.ExitStack() as stack:
        upstream = f"http://127.0.0.1:{stack.enter_context(fake_provider()).port}"
        servers = [
            stack.enter_context(python_server(REFERENCE, "reference", "relay", upstream)),
            stack.enter_context(python_server("llmbridge", "served", "relay", upstream)),
        ]
        seen = interleaved(servers, WIRES, plan.seconds, plan.rounds)
    figures = {s: {w: by[w]["cpu_us_event"] for w in WIRES} for s, by in seen.items()}
    return Table("Relay, CPU us/event in a burst", figures, baseline=REFERENCE)
