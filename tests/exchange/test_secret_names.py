import pytest

from llmbridge.exchange.secret_names import masked, secrets_of, sounds_secret, stands_in


def test_variables_are_secret_by_the_end_of_their_names():
    environ = {"MY_API_KEY": "a", "DB_PASSWORD": "b", "gh_token": "c", "KEYBOARD": "d", "HOME": "e"}

    assert secrets_of(environ) == {"a", "b", "c"}


def test_each_of_several_keys_is_secret():
    environ = {"OPENAI_API_KEY": "a,b", "PARTITION_KEY": "c,d"}

    assert secrets_of(environ) == {"a,b", "a", "b", "c,d"}


@pytest.mark.parametrize(
    "name", ["Authorization", "x-api-key", "Cookie", "X-Company-Auth", "x-amz-security-token"]
)
def test_these_headers_sound_secret(name):
    assert sounds_secret(name)


@pytest.mark.parametrize(
    "name", ["content-type", "x-author", "Idempotency-Key", "traceparent", "x-amz-date", "accept"]
)
def test_these_headers_do_not(name):
    assert not sounds_secret(name)


@pytest.mark.parametrize(
    "text",
    [
        "REDACTED",
        "Bearer test_openai_api_key",
        "X-API-KEY-XXX",
        "XXXXXX",
        "***",
        "Bearer <token>",
        "[FILTERED]",
        "${API_KEY}",
        "{{ key }}",
        "__cf_bm=SCRUBBED; _cfuvid=SCRUBBED",
        "_cfuvid=SCRUBBED; HttpOnly; SameSite=None; Secure; Path=/; Domain=api.openai.com",
        "10",
        "",
    ],
)
def test_this_stands_in_for_a_secret(text):
    assert stands_in(text)


@pytest.mark.parametrize(
    "text",
    [
        "Bearer hunter2hunter2",
        "org-28gund",
        "4257e925-ee99-4ee8-9c62-8e53716d5203",
        "__cf_bm=SCRUBBED; session=a8f2c",
        "latest-greatest",
        "abc123def",
    ],
)
def test_this_does_not(text):
    assert not stands_in(text)


@pytest.mark.parametrize(
    ("secret", "hint"),
    [
        ("", ""),
        ("abcd", "..."),
        ("abcde", "a...e"),
        ("abcdefghij", "ab...ij"),
        ("abcdefghijklmnopqrst", "abcd...qrst"),
        ("é" * 20, "éééé...éééé"),
    ],
)
def test_a_mask_tells_keys_apart_and_gives_little_away(secret, hint):
    assert masked(secret) == hint
