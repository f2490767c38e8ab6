import json
from base64 import b64encode
from dataclasses import replace
from itertools import pairwise
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbridge.exchange.call import Headers, Request
from llmbridge.exchange.record import Record
from llmbridge.exchange.redact import Redactor
from tests.shared import SHARED, needs_shared

KNOWN = 'hunter2-Zq/9+x"y'
"""A secret without a shape, with bytes that JSON, URLs and base64 write otherwise."""

SHAPES = {
    "sk-ant-api03-FAKEfakeFAKE0001_-x": "anthropic-key",
    "sk-proj-FAKEfakeFAKE0002-_y": "openai-key",
    "sk-svcacct-FAKEfakeFAKE0003": "openai-key",
    "sk-FAKE0004fakeFAKE": "openai-key",
    "sk-or-v1-0123456789abcdef0123456789abcdef": "openrouter-key",
    "AIzaSyFAKEfakeFAKEfakeFAKEfakeFAKE-_006": "google-key",
    "AKIAFAKEFAKEFAKE0007": "aws-key",
    "ghp_FAKEfakeFAKEfakeFAKEfakeFAKEfakeFA08": "github-token",
    "github_pat_FAKE09_fakeFAKEfakeFAKE": "github-token",
    "hf_FAKEfakeFAKEfakeFAKEfakeFAKE10": "huggingface-token",
    "llmb_FAKEfake-FAKE_fakeFAKEfakeFAKEfakeFAKEfake10": "llmbridge-token",
    "gsk_FAKEfakeFAKEfakeFAKEfakeFAKE11": "groq-key",
    "xai-FAKEfakeFAKEfakeFAKEfakeFAKE12": "xai-key",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJGQUtFMTMifQ.FAKEsignature_-13": "jwt",
}

HARMLESS = (
    b'{"max_tokens":4096,"max_completion_tokens":512,"temperature":0.5,"stop":["sk-"]}',
    b'{"usage":{"input_tokens":52,"output_tokens":7,"cache_read_input_tokens":0}}',
    b'{"logit_bias":{"50256":-100,"token":"5"},"prompt_cache_key":"user-12345678"}',
    b'{"properties":{"key":{"type":"string"},"password":{"type":"string","title":"the password"}}}',
    b'{"properties":{"api_key":{"type":"string"}},"required":["api_key","password","token"]}',
    b'{"key":"user_preferences_2024","primary_key":"id_12345678","next_page_token":"abc123456789"}',
    b'{"logprobs":{"content":[{"token":"international","logprob":-0.1,"bytes":[105]}]}}',
    b'{"text":"the task-force-12345678 and risk-2024abcd, desk-0123456789ab, sk-SK, sk-learn"}',
    b'{"text":"Bearer authentication is required; the bearer of this letter; basic information"}',
    b'{"text":"hf_hub_download(hf_model_name), gsk_model, xai-org/grok-1, AKIAKANE, AIza"}',
    b'{"apiKeyLocation":"env:OPENAI","authorization_url":"https://example.com/authorize"}',
    b'{"type":"thinking","signature":"EqQBCkYIBxgCKkBiT0ZB/sk+Kx==","token_count":12}',
    b'{"encrypted_content":"gAAAAABoISQkfQ_eyJh.bGc","authorization":null,"password":""}',
    "日本語 🙂 «sk» — naïve".encode(),
    b"\xff\xfe\x00binary\x80\x81",
    b"",
)

TEXT = st.text(max_size=30)
NO_HEADERS = Headers()


def asking(
    body: bytes = b"", *, url: str = "https://api.openai.com/v1/x", **headers: str
) -> Request:
    pairs = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Request("POST", url, Headers(pairs), body)


def answering(*chunks: bytes, headers: Headers = NO_HEADERS) -> Record:
    timed = tuple((index / 10, chunk) for index, chunk in enumerate(chunks))
    return Record("i", "openai", "openai.chat", None, 200, headers, timed)


def test_keeps_the_names_of_all_request_headers_and_the_values_of_harmless_ones():
    request = asking(
        authorization="Bearer sk-proj-FAKEfakeFAKE0002",
        x_api_key="sk-ant-api03-FAKEfakeFAKE0001",
        cookie="session=FAKE",
        openai_organization="org-FAKE",
        x_amz_security_token="FAKE",
        content_type="application/json",
        anthropic_version="2023-06-01",
        anthropic_beta="a-1,b-2",
    )

    clean, rules = Redactor().request(request)

    assert clean.headers.pairs == (
        ("authorization", "<redacted:header>"),
        ("x-api-key", "<redacted:header>"),
        ("cookie", "<redacted:header>"),
        ("openai-organization", "<redacted:header>"),
        ("x-amz-security-token", "<redacted:header>"),
        ("content-type", "application/json"),
        ("anthropic-version", "2023-06-01"),
        ("anthropic-beta", "a-1,b-2"),
    )
    assert rules == ("header",)


def test_drops_telemetry_without_calling_it_a_secret():
    request = asking(user_agent="OpenAI/Python 3", X_Stainless_OS="Linux", accept="*/*")

    clean, rules = Redactor().request(request)

    assert (clean.headers.pairs, rules) == ((("accept", "*/*"),), ())


def test_a_secret_in_a_harmless_header_goes_too():
    clean, rules = Redactor().request(asking(accept="x; sk-ant-api03-FAKEfakeFAKE0001"))

    assert clean.headers["accept"] == "x; <redacted:anthropic-key>"
    assert rules == ("anthropic-key",)


@pytest.mark.parametrize(
    ("url", "clean"),
    [
        (
            "https://h/v1:go?alt=sse&key=AIzaFAKE0006",
            "https://h/v1:go?alt=sse&key=<redacted:query>",
        ),
        (
            "https://h/?api_key=a&api-version=1#x",
            "https://h/?api_key=<redacted:query>&api-version=1#x",
        ),
        ("https://h/?access_token=a%20b&q=key", "https://h/?access_token=<redacted:query>&q=key"),
        ("https://h/b?sig=ab%2Fc%3D&se=2026", "https://h/b?sig=<redacted:query>&se=2026"),
        ("https://h/?X-Amz-Signature=abc", "https://h/?X-Amz-Signature=<redacted:query>"),
        ("https://me:pass@h:1/p", "https://<redacted:userinfo>@h:1/p"),
        ("https://h/bot/sk-FAKE0004fakeFAKE/x", "https://h/bot/<redacted:openai-key>/x"),
    ],
)
def test_takes_secrets_out_of_urls(url, clean):
    assert Redactor().request(asking(url=url))[0].url == clean


@pytest.mark.parametrize(
    "url",
    [
        "https://h/v1/keys?limit=5&monkey=1&max_tokens=4&order=key",
        "https://h/v1/messages?beta=true",
        "http://[::1]:8000/v1?model=a@b",
        "",
    ],
)
def test_leaves_harmless_urls(url):
    request = asking(url=url)

    assert Redactor().request(request)[0] is request


@pytest.mark.parametrize(
    "name",
    [
        "api_key",
        "apiKey",
        "API-Key",
        "x-api-key",
        "OPENAI_API_KEY",
        "HF_TOKEN",
        "access_token",
        "authorization_token",
        "client_secret",
        "aws_secret_access_key",
        "private_key",
        "password",
        "Password",
        "db_password",
        "PGPASSWORD",
        "passphrase",
        "Authorization",
        "proxy-authorization",
        "credentials",
        "token",
    ],
)
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (",", " : ")])
def test_takes_out_what_a_json_key_names_as_a_secret(name, separators):
    body = {"model": "m", "a": [{name: "plain-value-1", "max_tokens": 5}], "z": "kept"}
    clean = {**body, "a": [{name: "<redacted:field>", "max_tokens": 5}]}

    request, rules = Redactor().request(asking(json.dumps(body, separators=separators).encode()))

    assert request.body == json.dumps(clean, separators=separators).encode()
    assert rules == ("field",)


@given(value=st.text(min_size=1, max_size=20), after=TEXT)
def test_json_stays_json_whatever_the_secret_holds(value, after):
    body = json.dumps({"password": value, "after": after, "messages": [{"content": "hi"}]})

    clean, _ = Redactor().request(asking(body.encode()))

    assert json.loads(clean.body) == {
        "password": value if value.startswith("<redacted:") else "<redacted:field>",
        "after": after,
        "messages": [{"content": "hi"}],
    }


@given(value=st.text(min_size=1, max_size=20), after=TEXT)
def test_json_inside_json_stays_so_too(value, after):
    arguments = json.dumps({"api_key": value, "after": after})

    clean, _ = Redactor().request(asking(json.dumps({"arguments": arguments}).encode()))

    assert json.loads(json.loads(clean.body)["arguments"]) == {
        "api_key": value if value.startswith("<redacted:") else "<redacted:field>",
        "after": after,
    }


def test_form_bodies_are_read_as_such():
    request = asking(
        b"grant_type=x&client_secret=FAKE0001&scope=a",
        content_type="application/x-www-form-urlencoded",
    )

    assert Redactor().request(request)[0].body == (
        b"grant_type=x&client_secret=<redacted:query>&scope=a"
    )


def test_restates_the_length_of_a_changed_body():
    request = asking(b'{"password":"x"}', Content_Length="16")

    clean = Redactor().request(request)[0]

    assert clean.headers["content-length"] == str(len(clean.body)) == "31"


@pytest.mark.parametrize("body", HARMLESS)
def test_hands_harmless_bodies_back_as_they_are(body):
    request = asking(body, content_type="application/json")
    record = answering(body[:7], body[7:])

    assert Redactor([KNOWN]).request(request) == (request, ())
    assert Redactor([KNOWN]).request(request)[0] is request
    assert Redactor([KNOWN]).record(record) is record


@pytest.mark.parametrize(("secret", "rule"), SHAPES.items())
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'{"text":"', b'"}'),
        (b'{"text":"my key:\\n', b'\\nthanks"}'),
        (b"data: ", b"\n\n"),
        (b"key=%3D", b"%20"),
        (b"", b""),
        (b"(", b")."),
        (b"\xff\x00 ", b" \xff"),
    ],
)
def test_takes_out_known_shapes(secret, rule, before, after):
    record = Redactor().record(answering(before + secret.encode() + after))

    end = b"." if rule == "jwt" and after == b")." else b""
    assert record.body.removesuffix(end) + end == before + f"<redacted:{rule}>".encode() + after
    assert record.redacted == (rule,)


@pytest.mark.parametrize("word", ["Bearer", "bearer"])
def test_takes_out_bearer_tokens_of_any_shape(word):
    text = f'curl -H "Authorization: {word} llmb_FAKE0003" x'

    assert Redactor().text(text) == f'curl -H "Authorization: {word} <redacted:bearer>" x'


def test_takes_out_private_keys_and_nothing_after_them():
    key = (
        "-----BEGIN RSA PRIVATE KEY-----\\nMIIEFAKEfake+/=\\nFAKE==\\n-----END RSA PRIVATE KEY-----"
    )

    clean = Redactor().record(answering(json.dumps({"a": key, "b": "after"}).encode()))

    assert json.loads(clean.body) == {
        "a": "-----BEGIN RSA PRIVATE KEY-----<redacted:private-key>-----END RSA PRIVATE KEY-----",
        "b": "after",
    }


@pytest.mark.parametrize(
    "spelled",
    [
        KNOWN,
        json.dumps(KNOWN)[1:-1],
        quote(KNOWN),
        quote(KNOWN, safe=""),
        "Basic " + b64encode(f"user:{KNOWN}".encode()).decode(),
        "Basic " + b64encode(f"me:{KNOWN}".encode()).decode(),
        "basic " + b64encode(f":{KNOWN}".encode()).decode(),
    ],
)
def test_takes_out_secrets_of_this_process_however_they_are_spelled(spelled):
    clean = Redactor([KNOWN]).text(f"401: <{spelled}> is not valid")

    word = spelled.split()[0] + " " if " " in spelled else ""
    assert clean == f"401: <{word}<redacted:secret>> is not valid"


def test_short_secrets_are_taken_for_words():
    assert Redactor(["true", "", "openai"]).text("openai said true") == "openai said true"


def test_a_shape_has_its_name_also_when_the_secret_is_known():
    secret = "sk-ant-api03-FAKEfakeFAKE0001"

    assert Redactor([secret]).text(secret) == Redactor().text(secret) == "<redacted:anthropic-key>"


def test_a_known_secret_that_goes_on_after_its_shape_goes_whole():
    secret = "sk-proj-FAKEfake0001!tail-of-it"

    assert Redactor([secret]).text(f"<{secret}>") == "<<redacted:openai-key>>"


@pytest.mark.feature("replay", 6)
@pytest.mark.parametrize("secret", [KNOWN, "sk-ant-api03-FAKEfakeFAKE0001"])
def test_finds_a_secret_split_at_every_place(secret):
    redactor = Redactor([KNOWN])
    body = b"data: one " + secret.encode() + b" two\n\n"
    start, end = 10, 10 + len(secret)
    mark = b"<redacted:secret>" if secret == KNOWN else b"<redacted:anthropic-key>"

    for first in range(1, len(body)):
        for second in (first + 1, first + 2, len(body) - 1):
            if not first < second < len(body):
                continue
            pieces = (body[:first], body[first:second], body[second:])

            record = redactor.record(answering(*pieces))

            assert record.body == body[:start] + mark + body[end:]
            assert record.chunks == _expected(pieces, start, end, mark)


def _expected(pieces, start, end, mark):
    """Each piece without the bytes of the secret, the mark where it began, empty ones left out."""
    place, cut = 0, []
    for index, piece in enumerate(pieces):
        kept = b"".join(
            mark if at == start else b"" if start < at < end else bytes([byte])
            for at, byte in enumerate(piece, place)
        )
        place += len(piece)
        if kept:
            cut.append((index / 10, kept))
    return tuple(cut)


def test_pieces_without_a_secret_stay_the_same_objects():
    record = answering(b"data: a\n\n", b"data: sk-FAKE0004fakeFAKE\n\n", b"data: b\n\n")

    chunks = Redactor().record(record).chunks

    assert [new is old for (_, new), (_, old) in zip(chunks, record.chunks, strict=True)] == [
        True,
        False,
        True,
    ]


@given(
    parts=st.lists(st.sampled_from([*SHAPES, KNOWN, "word", " ", '","', "\n\n"]), max_size=12),
    cuts=st.lists(st.integers(0, 400), max_size=6),
)
def test_the_pieces_never_change_what_is_found(parts, cuts):
    body = " ".join(parts).encode()
    borders = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    pieces = [body[a:b] for a, b in pairwise(borders)]
    redactor = Redactor([KNOWN])

    cut, whole = redactor.record(answering(*pieces)), redactor.record(answering(body))

    assert (cut.body, cut.redacted) == (whole.body, whole.redacted)
    assert not any(secret.encode() in cut.body for secret in (*SHAPES, KNOWN))


@given(st.binary(max_size=200))
def test_is_done_after_one_pass(body):
    redactor = Redactor([KNOWN])
    once = redactor.record(replace(answering(body), request=asking(body)))

    assert redactor.record(once) is once


def test_answer_headers_lose_cookies_and_organisations_alone():
    headers = Headers(
        (
            ("Set-Cookie", "session=FAKE0005; HttpOnly"),
            ("Set-Cookie", "b=FAKE"),
            ("openai-organization", "org-FAKE"),
            ("anthropic-organization-id", "FAKE"),
            ("openai-project", "proj_FAKE"),
            ("x-request-id", "req_1"),
            ("retry-after", "2"),
            ("cf-ray", "abc-FRA"),
            ("anthropic-ratelimit-input-tokens-limit", "400000"),
            ("x-ratelimit-remaining-tokens", "100"),
            ("location", "https://h/next?token=FAKE&x=1"),
        )
    )

    record = Redactor().record(answering(b"{}", headers=headers))

    assert record.headers.pairs == (
        ("Set-Cookie", "<redacted:header>"),
        ("Set-Cookie", "<redacted:header>"),
        ("openai-organization", "<redacted:header>"),
        ("anthropic-organization-id", "<redacted:header>"),
        ("openai-project", "<redacted:header>"),
        *headers.pairs[5:10],
        ("location", "https://h/next?token=<redacted:query>&x=1"),
    )
    assert record.redacted == ("header", "query")


def test_answer_bodies_keep_what_json_keys_hold():
    body = b'{"password":"hunter2","token":"abc12345678"}'
    record = answering(body)

    assert Redactor().record(record) is record


def test_cleans_all_parts_of_a_record_and_names_the_rules():
    record = replace(
        answering(b"sk-FAKE0004", b"fakeFAKE", headers=Headers({"content-length": "19"})),
        request=asking(b'{"api_key":"x"}', x_api_key="FAKE"),
        error=f"401 for {KNOWN}",
        redacted=("earlier",),
    )

    clean = Redactor([KNOWN]).record(record)

    assert clean == replace(
        record,
        request=asking(b'{"api_key":"<redacted:field>"}', x_api_key="<redacted:header>"),
        headers=Headers({"content-length": "21"}),
        chunks=((0.0, b"<redacted:openai-key>"),),
        error="401 for <redacted:secret>",
        redacted=("earlier", "field", "header", "openai-key", "secret"),
    )


def test_shows_no_secret_of_its_own():
    redactor = Redactor([KNOWN])

    assert KNOWN not in repr(redactor)


@pytest.mark.feature("replay", 6)
@needs_shared
def test_no_planted_secret_is_left():
    assert SHARED is not None
    planted = json.loads((SHARED / "conformance/security/basic.json").read_text())["secrets"]

    for secret in planted:
        where, value, needle = secret["where"], secret["value"], secret["needle"]
        known = [value] if "environment variable" in where else []

        clean = Redactor(known).record(_holding(where, value))

        assert needle not in repr(clean), where


def _holding(where: str, value: str) -> Record:
    kind, _, name = where.rpartition(" ")
    record = replace(answering(b"{}"), request=asking(b"{}"))
    match kind:
        case "request header" | "bridge token in":
            return replace(record, request=replace(asking(), headers=Headers({name: value})))
        case "response header":
            return replace(record, headers=Headers({name: value}))
        case "query":
            return replace(record, request=asking(url=f"https://h/p{name}{value}"))
        case "body":
            body: object = value
            for key in reversed(name.split(".")):
                body = {key: body}
            return replace(record, request=asking(json.dumps(body).encode()))
        case _:
            return replace(
                answering(value[:3].encode(), value[3:].encode()), error=f"no such key {value}"
            )
