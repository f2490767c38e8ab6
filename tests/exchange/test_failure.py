import json
from typing import Any

import pytest

from llmbridge.errors import ConfigurationError
from llmbridge.exchange.failure import Failure, error_of
from llmbridge.providers import DIALECTS

ANTHROPIC, CHAT = DIALECTS["anthropic.messages"], DIALECTS["openai.chat"]


async def body(failure: Failure, dialect: Any) -> Any:
    return json.loads(b"".join([chunk async for chunk in failure.reply(dialect)]))


async def test_anthropic_names_the_error_in_its_own_envelope() -> None:
    assert await body(Failure(529), ANTHROPIC) == {
        "type": "error",
        "error": {"type": "overloaded_error", "message": "Overloaded"},
    }


async def test_openai_names_it_in_its_own() -> None:
    assert await body(Failure(429, "Slow down"), CHAT) == {
        "error": {
            "message": "Slow down",
            "type": "rate_limit_error",
            "param": None,
            "code": None,
        }
    }


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (422, "invalid_request_error"),
        (500, "api_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
    ],
)
async def test_every_status_has_a_type(status: int, kind: str) -> None:
    assert (await body(Failure(status), ANTHROPIC))["error"]["type"] == kind


def test_the_time_to_wait_is_told_in_both_units() -> None:
    headers = Failure(503, retry_after=0.02).reply(CHAT).headers

    assert [(name, headers[name]) for name in ("retry-after", "retry-after-ms")] == [
        ("retry-after", "1"),
        ("retry-after-ms", "20"),
    ]


def test_a_rate_limit_says_what_is_left() -> None:
    found = {
        name: value
        for dialect in (ANTHROPIC, CHAT)
        for name, value in Failure(429, retry_after=2).reply(dialect).headers.pairs
        if "ratelimit" in name
    }

    assert found == {
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-requests-remaining": "0",
        "x-ratelimit-limit-requests": "500",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "2s",
    }


def test_other_failures_name_no_limits() -> None:
    assert sorted(Failure(500).reply(CHAT).headers) == ["content-length", "content-type"]


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        ((200,), "status 200 is no error"),
        (("no",), "status 'no' is no error: give 400 to 599"),
        ((429, "", -1), "retry_after=-1: give seconds"),
    ],
)
def test_what_is_no_failure_is_refused(failure: tuple[Any, ...], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        Failure(*failure)


@pytest.mark.parametrize("word", ["overloaded", "overloaded_error"])
def test_a_kind_is_known_by_our_word_and_by_the_providers(word: str) -> None:
    error = error_of(word, "")

    assert (error.kind, error.message) == ("overloaded", "Overloaded")


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no error 'bad_weather': there are"):
        error_of("bad_weather", "")
