"""What others do and what a replay must stand, row by row, and which of our tests hold each row.

A test names its rows with `@pytest.mark.feature("bitop", 7, 8)`; `docs/reference/compatibility.md` is made from that.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

TESTS = Path(__file__).parent

SYSTEMS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "bitop": (
        "bitop-dev/agent, the proxy of `POST /stream`",
        (
            "a request as JSON",
            "the model's name goes through",
            "system prompt and messages of content blocks",
            "max_tokens and temperature",
            "the level of thinking",
            "how long a prompt is cached",
            "event `start`",
            "event `text_delta`",
            "events `tool_call_start`, `tool_call_delta`, `tool_call_end`",
            "event `done`",
            "the message so far in every event",
            "the code's own wire: `thinking_delta`, `tool_call_args_delta`, `message_end`, `[DONE]`",
            "a handler in front of any provider, with a token",
            "no token, no authentication",
            "401 for a token that is missing or wrong",
            "such a server as a provider",
            "a client set up by a configuration file",
            "middleware around it",
            "several upstreams on paths of their own",
            "a server to run: several upstreams, health",
        ),
    ),
    "calliope": (
        "Calliope's proxy, and Continue's client",
        (
            "the six header fields",
            "the timestamp",
            "the server checks the header fields",
            "a bearer token for the model proxy",
            "`/web`: request and answer",
            "`/crawl`: request and answer, depth and limit",
            "`chat/completions`",
            "`completions`",
            "`embeddings`",
            "`rerank`",
            "model names of four parts",
            "calliopeProperties read and removed",
            "apiKeyLocation, apiBase, orgScopeId, env",
            "a proxy of one's own for a model",
            "secrets that the client does not have",
            "the provider's name in the client's configuration",
            "one switch for the proxy's address",
            "the client class",
            "clients of search and crawl",
            "streams pass through",
            "checked input, limits, safe keys",
            "`fim/completions`, `models`",
        ),
    ),
    "tinyagent": (
        "tinyagent and pi, the proxy of `POST /api/stream`",
        (
            "OpenRouter's model and its defaults",
            "streaming from OpenRouter, where the key is found, `ValueError` without one",
            "text deltas, tool calls, messages converted",
            "the response: iteration and result",
            "the model of a compatible endpoint",
            "streaming from a compatible endpoint",
            "options of the proxy's client",
            "a client of `/api/stream`",
            "the same with its options one by one",
            "the proxy's response",
            "arguments that are still streaming",
            "cancelling by a signal",
            "stream functions and responses of one's own",
            "twelve events, the message so far in each",
            "the server of `/api/stream`",
            "pi's spelling of the same",
        ),
    ),
    "anthropic-proxy": (
        "a Python proxy for Anthropic with request rewriting",
        (
            "`/v1/messages` unchanged",
            "text appended to the last message, as a string and as a block",
            "streams and whole answers",
            "key and address from the environment",
            "logs of request, changed body and answer",
            "a row in SQLite before the call, completed after it",
            "files and libraries of the plan",
        ),
    ),
    "aibridge": (
        "coder/aibridge, its Go package",
        (
            "an actor with metadata",
            "names of events and providers",
            "errors of closed streams and unknown routes",
            "error answers in each provider's shape",
            "Anthropic Messages, whole and streamed",
            "OpenAI Chat Completions, whole and streamed",
            "providers: name, address, key, routes",
            "interfaces of provider, interceptor, recorder",
            "configuration of a provider",
            "requests read without losing what is not known",
            "records of interception, tokens, prompt, tool",
            "a recorder around a client's function",
            "a recorder that does not hold up the call",
            "the bridge: in-flight count, shutdown, many at once",
            "a parser of server-sent events",
            "tools of MCP servers injected",
            "allowed routes passed through, others refused",
            "streams as state machines",
        ),
    ),
    "gateway": (
        "coder/aibridge, what its bridge does",
        (
            "the bridge: providers and their routes",
            "several instances of one provider",
            "Anthropic Messages, whole and streamed",
            "Chat Completions, whole and streamed",
            "Responses, whole and streamed; streams come live",
            "GitHub Copilot, and Anthropic's models at Bedrock",
            "listed routes passed through, 404 otherwise; a switch for all",
            "base path and query kept",
            "the client's fields forwarded but for those of a hop",
            "a client's own key; keys are recorded masked",
            "the actor and what is known of them, also for the provider; what a client says of itself is not passed on",
            "the start of a call is recorded first, or the call refused",
            "the end of a call, with the kind of error",
            "tokens with cache and reasoning; Anthropic's output counted once",
            "prompts: one per human turn, with the first answer's id",
            "tool calls with their ids, all parallel ones",
            "thoughts",
            "client and session guessed; the tool call that a request answers",
            "records are written beside the call and complete after it",
            "a store of the user's own",
            "the answer's id may be the interception's; as it came by default",
            "one usage with the sum of all rounds, all its fields",
            "block indices numbered through after a hidden call",
            "tools of MCP servers: prefix, patterns, order, place",
            "the loop hidden from the client: limits, all calls by id, errors told",
            "parallel calls as the client wants them, with tools and without",
            "a status is kept until the first event",
            "pings: events for Anthropic, comments for OpenAI",
            "errors in the provider's shape with type, param and request id",
            "retries that honour Retry-After; none by default",
            "a client that leaves ends the call and keeps its records",
            "calls in flight are counted; shutdown in order",
            "circuit breaker",
            "several keys of one provider",
            "Prometheus counts, equal to the frames",
            "traces",
            "what passed, kept masked, each round by itself",
            "background responses refused",
            "a parser of server-sent events without a limit of lines",
            "a scripted provider",
            "a gate before tool calls",
        ),
    ),
    "replay": (
        "The acceptance checks of recording and replay",
        (
            "recorded while it streams: the first piece does not wait for the rest, and bytes, events and pieces come again",
            "plain vcrpy and pytest-recording replay our file; saved again by vcrpy it has its timing (`make compat`: also vcrpy 6)",
            "files of vcrpy before 6 and of today, of pydantic-ai, cassetter and Ruby VCR are read",
            "an upstream that drops inside a stream drops at the same event, with the same failure",
            "requests that were recorded side by side have each their own answer",
            "no planted secret in any file, however it was split over pieces",
            "a miss fails the test of an agent that catches every exception, and says what differs",
            "rates and pace, by `make bench` (`replay`, `pace`, `inprocess`, and `fidelity` for row 1); the tests hold what it counts on",
            "a request that differs in one thing, and that looser rules would answer, is a miss",
        ),
    ),
}


def held() -> dict[tuple[str, int], list[str]]:
    """The tests of each row, as `folder/file.py::test`.

    Raises:
        ValueError: a mark names a row that is not there, or stands at what is no test.
    """
    rows: dict[tuple[str, int], list[str]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        for test, system, row in _marks(path):
            if not test.startswith("test_"):
                raise ValueError(
                    f"{path.name}::{test} is no test, and holds row {row} of {system!r}"
                )
            if system not in SYSTEMS or not 1 <= row <= len(SYSTEMS[system][1]):
                raise ValueError(
                    f"{path.name}::{test} holds row {row} of {system!r}: there is none"
                )
            rows[system, row].append(f"{path.relative_to(TESTS).as_posix()}::{test}")
    return rows


def _marks(path: Path) -> Iterator[tuple[str, str, int]]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for mark in node.decorator_list:
            if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.feature":
                system, *rows = (ast.literal_eval(argument) for argument in mark.args)
                yield from ((node.name, system, row) for row in rows)
