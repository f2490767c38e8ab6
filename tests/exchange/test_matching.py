import json
from base64 import b64encode
from collections.abc import Callable
from copy import deepcopy
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbridge.errors import ConfigurationError
from llmbridge.exchange.call import Headers, Request
from llmbridge.exchange.canonical import RULES
from llmbridge.exchange.matching import KEY_VERSION, Matcher
from llmbridge.exchange.redact import Redactor
from llmbridge.exchange.routing import Router

CHAT = "https://api.openai.com/v1/chat/completions"
RESPONSES = "https://api.openai.com/v1/responses"
MESSAGES = "https://api.anthropic.com/v1/messages"
GEMINI = "https://generativelanguage.googleapis.com/v1beta/models/m-1:generateContent"
URLS = {
    "google.gemini": GEMINI,
    "openai.chat": CHAT,
    "openai.responses": RESPONSES,
    "anthropic.messages": MESSAGES,
    "anthropic.count_tokens": f"{MESSAGES}/count_tokens",
    "openai.completions": "https://api.openai.com/v1/completions",
    "openai.embeddings": "https://api.openai.com/v1/embeddings",
}
ROUTER = Router()


def key(url: str, body: Any, matcher: Matcher | None = None, method: str = "POST") -> str:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = Request(method, url, Headers(), data)
    return (matcher or Matcher()).asked(request, ROUTER.destination(request)).key


def call(id: str) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": "clock", "arguments": "{}"}}


CHAT_BODY: dict[str, Any] = {
    "model": "gpt-5-mini",
    "temperature": 0.5,
    "stream": True,
    "tools": [{"type": "function", "function": {"name": "clock", "parameters": {}}}],
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What time is it?"}]},
        {"role": "assistant", "content": None, "tool_calls": [call("call_a"), call("call_b")]},
        {"role": "tool", "tool_call_id": "call_a", "content": "noon"},
        {"role": "tool", "tool_call_id": "call_b", "content": "one"},
    ],
}
RESPONSES_BODY: dict[str, Any] = {
    "model": "gpt-5-mini",
    "instructions": "Be brief.",
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "What time is it?"}]},
        {"type": "function_call", "id": "fc_a", "call_id": "call_a", "name": "clock"},
        {"type": "function_call_output", "call_id": "call_a", "output": "noon"},
    ],
}
MESSAGES_BODY: dict[str, Any] = {
    "model": "claude-sonnet-5",
    "max_tokens": 99,
    "system": [{"type": "text", "text": "Be brief."}],
    "tools": [{"name": "clock", "input_schema": {"type": "object"}}],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "What time is it?"}]},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "toolu_a", "name": "clock", "input": {}}],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_a",
                    "content": [{"type": "text", "text": "noon"}],
                }
            ],
        },
    ],
}
GEMINI_BODY: dict[str, Any] = {
    "systemInstruction": {"parts": [{"text": "Be brief."}]},
    "generationConfig": {"maxOutputTokens": 99},
    "tools": [{"functionDeclarations": [{"name": "clock"}]}],
    "contents": [
        {"role": "user", "parts": [{"text": "What time is it?"}]},
        {"role": "model", "parts": [{"functionCall": {"id": "call_a", "name": "clock"}}]},
        {
            "role": "user",
            "parts": [
                {
                    "functionResponse": {
                        "id": "call_a",
                        "name": "clock",
                        "response": {"result": "noon"},
                    }
                }
            ],
        },
    ],
}
BODIES = {
    "google.gemini": GEMINI_BODY,
    "openai.chat": CHAT_BODY,
    "openai.responses": RESPONSES_BODY,
    "anthropic.messages": MESSAGES_BODY,
}
DIALECTS = st.sampled_from(sorted(BODIES))


def shuffled(value: Any, random: Random) -> Any:
    """The same JSON value with the keys of its objects in another order."""
    if isinstance(value, dict):
        keys = list(value)
        random.shuffle(keys)
        return {name: shuffled(value[name], random) for name in keys}
    return [shuffled(item, random) for item in value] if isinstance(value, list) else value


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to everything that is no container."""
    if isinstance(value, dict):
        return [place for name in value for place in places(value[name], (*way, name))]
    if isinstance(value, list):
        return [place for at, item in enumerate(value) for place in places(item, (*way, at))]
    return [way]


def put(body: Any, way: tuple[Any, ...], value: Any) -> Any:
    changed = deepcopy(body)
    holder = changed
    for step in way[:-1]:
        holder = holder[step]
    holder[way[-1]] = value
    return changed


@given(DIALECTS, st.randoms(use_true_random=False), st.sampled_from([None, 1, "\t"]), st.booleans())
def test_spelling_and_order_never_matter(
    dialect: str, random: Random, indent: Any, ascii: bool
) -> None:
    body = BODIES[dialect]
    again = json.dumps(shuffled(body, random), indent=indent, ensure_ascii=ascii)

    assert key(URLS[dialect], again.encode()) == key(URLS[dialect], body)


@given(DIALECTS, st.data())
def test_volatile_fields_never_matter(dialect: str, data: st.DataObject) -> None:
    names = data.draw(st.sets(st.sampled_from(sorted(RULES[dialect].volatile))))
    values = st.text() | st.dictionaries(st.text(), st.integers())
    more = {name: data.draw(values) for name in names}

    assert key(URLS[dialect], BODIES[dialect] | more) == key(URLS[dialect], BODIES[dialect])


@given(DIALECTS, st.data())
def test_defaults_may_be_left_out(dialect: str, data: st.DataObject) -> None:
    body = {name: value for name, value in BODIES[dialect].items() if name != "stream"}
    defaults = RULES[dialect].defaults
    names = data.draw(st.sets(st.sampled_from(sorted(defaults))))

    assert key(URLS[dialect], body | {name: defaults[name] for name in names}) == key(
        URLS[dialect], body
    )


IDS = {"id", "call_id", "tool_call_id", "tool_use_id"}


@given(DIALECTS, st.data())
def test_any_other_change_matters(dialect: str, data: st.DataObject) -> None:
    body = BODIES[dialect]
    way = data.draw(st.sampled_from([way for way in places(body) if way[-1] not in IDS]))
    values = st.text() | st.integers() | st.booleans() | st.lists(st.none())
    value = data.draw(values.filter(lambda new: json.dumps(new) != json.dumps(at(body, way))))
    if way == ("stream",) and value is False:
        value = "false"

    assert key(URLS[dialect], put(body, way, value)) != key(URLS[dialect], body)


def at(body: Any, way: tuple[Any, ...]) -> Any:
    for step in way:
        body = body[step]
    return body


@given(DIALECTS, st.text(min_size=1), st.integers() | st.text())
def test_a_key_that_nobody_knows_matters(dialect: str, name: str, value: Any) -> None:
    rules = RULES[dialect]
    if name in rules.volatile or name in rules.defaults or name in BODIES[dialect]:
        name = f"another {name}"

    assert key(URLS[dialect], BODIES[dialect] | {name: value}) != key(
        URLS[dialect], BODIES[dialect]
    )


@pytest.mark.parametrize("dialect", BODIES)
def test_the_ids_of_tool_calls_count_by_the_order_in_which_they_appear(dialect: str) -> None:
    body = json.dumps(BODIES[dialect])
    renamed = body.replace("call_a", "x9").replace("call_b", "x1").replace("toolu_a", "x9")

    assert key(URLS[dialect], renamed.encode()) == key(URLS[dialect], body.encode())


def test_results_that_answer_other_calls_are_another_request() -> None:
    crossed = json.dumps(CHAT_BODY["messages"][3:]).replace("call_a", "call_c")
    crossed = crossed.replace("call_b", "call_a").replace("call_c", "call_b")
    other = {**CHAT_BODY, "messages": CHAT_BODY["messages"][:3] + json.loads(crossed)}

    assert key(CHAT, other) != key(CHAT, CHAT_BODY)


def test_marks_for_the_cache_do_not_matter() -> None:
    marked = deepcopy(MESSAGES_BODY)
    mark = {"cache_control": {"type": "ephemeral"}}
    marked["system"][0] |= mark
    marked["tools"][0] |= mark
    marked["messages"][2]["content"][0] |= mark
    marked["messages"][2]["content"][0]["content"][0] |= mark

    assert key(MESSAGES, marked | mark) == key(MESSAGES, MESSAGES_BODY)


def test_arguments_with_the_name_of_such_a_mark_do_matter() -> None:
    way = ("messages", 1, "content", 0, "input")
    other = put(MESSAGES_BODY, way, {"cache_control": 1})

    assert key(MESSAGES, other) != key(MESSAGES, MESSAGES_BODY)


@pytest.mark.parametrize(
    ("one", "other"),
    [(b'{"n":2}', b'{"n":2.0}'), (b'{"n":0.1}', b'{"n":1e-1}'), (b'{"n":1,"n":2}', b'{"n":2}')],
    ids=["whole number", "exponent", "repeated key"],
)
def test_one_value_may_be_spelled_in_several_ways(one: bytes, other: bytes) -> None:
    assert key(CHAT, one) == key(CHAT, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b'{"n":true}', b'{"n":1}'),
        (b'{"seed":123456789012345678901}', b'{"seed":123456789012345678902}'),
        (b'{"seed":1e400}', b'{"seed":2e400}'),
        (b'{"n":2} ', b'{"n":2}}'),
        (b"not JSON", b"not JSON "),
        (b'"\\u0000not JSON"', b"not JSON"),
        (b"", b"null"),
        (b"\xff", b"\xfe"),
    ],
    ids=["true", "large numbers", "huge numbers", "rubbish", "text", "a string", "none", "bytes"],
)
def test_other_values_are_told_apart(one: bytes, other: bytes) -> None:
    assert key(CHAT, one) != key(CHAT, other)


def test_nesting_beyond_all_reason_is_compared_as_text() -> None:
    deep = b"[" * 100_000 + b"]" * 100_000

    assert key(CHAT, deep) == key(CHAT, deep) != key(CHAT, deep + b" ")


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"], ids=["bare", "URL"])
def test_a_file_counts_by_its_hash(prefix: str) -> None:
    image = Random(1).randbytes(6000)
    whole = {"image": prefix + b64encode(image).decode()}
    stored = {"image": f"{prefix}<blob:sha256:{sha256(image)}:6000>"}
    other = {"image": prefix + b64encode(image[:-1] + b"?").decode()}

    assert key(CHAT, whole) == key(CHAT, stored) != key(CHAT, other)


def sha256(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


def test_a_request_is_the_same_once_its_secrets_are_out() -> None:
    body = json.dumps(
        {"messages": [], "tools": [{"api_key": "very-secret-1", "url": "x"}]}
    ).encode()
    request = Request("POST", CHAT, Headers(), body)
    kept = Redactor().request(request)[0]

    assert kept.body != body
    assert key(CHAT, kept.body) == key(CHAT, body)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:9/v1/chat/completions",
        "http://bridge/groq/openai/v1/chat/completions",
        "https://my.openai.azure.com/openai/deployments/x/chat/completions?api-version=1",
    ],
    ids=["a server", "a provider", "a deployment"],
)
def test_the_host_does_not_matter(url: str) -> None:
    assert key(url, CHAT_BODY) == key(CHAT, CHAT_BODY)


BEDROCK = "https://bedrock.example.com/model/anthropic.claude%3A0/invoke"


@pytest.mark.parametrize(
    "url",
    [
        BEDROCK.replace("%3A", ":"),
        BEDROCK.replace("bedrock.example.com", "other.example.com"),
        BEDROCK + "?key=secret-value-1",
    ],
    ids=["escapes", "host", "credentials"],
)
def test_the_path_of_an_unknown_endpoint_counts_in_one_spelling(url: str) -> None:
    assert key(url, {"a": 1}) == key(BEDROCK, {"a": 1})


@pytest.mark.parametrize("url", [BEDROCK + "-stream", BEDROCK + "?alt=sse"], ids=["path", "query"])
def test_another_path_of_an_unknown_endpoint_is_another_request(url: str) -> None:
    assert key(url, {"a": 1}) != key(BEDROCK, {"a": 1})


def test_the_order_of_a_query_does_not_matter() -> None:
    assert key(BEDROCK + "?a=1&b=2", b"") == key(BEDROCK + "?b=2&a=1", b"")


@pytest.mark.parametrize(
    ("url", "method"), [(RESPONSES, "POST"), (CHAT, "PUT")], ids=["dialect", "method"]
)
def test_operations_are_told_apart(url: str, method: str) -> None:
    assert key(url, CHAT_BODY, method=method) != key(CHAT, CHAT_BODY)


def test_keys_say_by_which_rules_they_were_made() -> None:
    assert key(CHAT, {}).startswith(f"{KEY_VERSION}:")


def test_ignored_places_do_not_count() -> None:
    matcher = Matcher(ignore=["$.messages[*].name", "$..trace"])
    one = {"messages": [{"name": "a", "content": "x"}], "extra": {"trace": 1}}
    other = {"messages": [{"content": "x"}], "extra": {}}

    assert key(CHAT, one, matcher) == key(CHAT, other, matcher)


def test_a_function_may_say_what_is_compared() -> None:
    matcher = Matcher(normalize=lambda body: {"model": body["model"].lower()})

    assert key(CHAT, {"model": "A", "n": 1}, matcher) == key(CHAT, {"model": "a"}, matcher)


def test_exact_compares_all_of_the_body() -> None:
    exact = Matcher("exact")
    found = {key(CHAT, CHAT_BODY | more, exact) for more in ({}, {"user": "a"}, {"n": 1})}

    assert len(found) == 3


@pytest.mark.parametrize("dialect", BODIES)
def test_last_user_compares_what_the_user_said_last(dialect: str) -> None:
    matcher = Matcher("last_user")
    other = json.loads(json.dumps(BODIES[dialect]).replace("Be brief.", "Be long."))

    assert key(URLS[dialect], other, matcher) == key(URLS[dialect], BODIES[dialect], matcher)


def test_google_is_read_in_both_spellings() -> None:
    snake = json.dumps(GEMINI_BODY)
    for name in ("systemInstruction", "maxOutputTokens", "functionCall", "functionResponse"):
        snake = snake.replace(name, "".join(f"_{c.lower()}" if c.isupper() else c for c in name))

    assert key(GEMINI, snake.encode()) == key(GEMINI, GEMINI_BODY)


def test_last_user_reads_contents_without_a_role() -> None:
    matcher = Matcher("last_user")
    one = {"contents": [{"parts": [{"text": "hi"}]}]}
    other = {"contents": [{"parts": [{"text": "hi"}]}], "safetySettings": []}
    another = {"contents": [{"parts": [{"text": "bye"}]}]}

    found = [key(GEMINI, body, matcher) for body in (one, other, another)]
    assert found[0] == found[1] != found[2]


def test_last_user_tells_other_words_and_streams_apart() -> None:
    matcher = Matcher("last_user")
    bodies = ({"input": "hi"}, {"input": "this"}, {"input": "hi", "stream": True})

    assert len({key(RESPONSES, body, matcher) for body in bodies}) == 3


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Matcher("loose"), "match='loose'"),  # type: ignore[arg-type]  # as a user may
        (lambda: Matcher(ignore="$.user"), r"ignore='\$.user' is one path"),
        (lambda: Matcher(ignore=5), "ignore is of type int: give a list"),  # type: ignore[arg-type]  # as a user may
        (lambda: Matcher(normalize=5), "normalize=5: give a function"),  # type: ignore[arg-type]  # as a user may
        (lambda: Matcher(ignore=["user"]), "is no path"),
    ],
    ids=["match", "a string", "a number", "no function", "path"],
)
def test_rules_that_cannot_be_are_refused(make: Callable[[], Matcher], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        make()
