import json

import pytest

from llmbridge.errors import (
    BridgeError,
    ConfigurationError,
    Forbidden,
    RequestError,
    Unauthorized,
    Unsupported,
)
from llmbridge.frontends.admission import (
    LOOPBACK_HOSTS,
    Admitted,
    Door,
    fields_by_name,
    host_name,
    host_names,
    token_for,
)
from llmbridge.frontends.people import People, Person
from tests.shared import SHARED, needs_shared

TOKEN = "llmb_secret"
VECTORS = SHARED / "conformance/security/basic.json" if SHARED else None
HOSTS = json.loads(VECTORS.read_text())["hosts"] if VECTORS else []


def admitted(fields, *, origins=(), hosts=LOOPBACK_HOSTS):
    try:
        Door(None, hosts, origins).check_origin(fields)
    except Forbidden:
        return False
    return True


@needs_shared
@pytest.mark.parametrize("vector", HOSTS, ids=lambda vector: vector["why"])
def test_only_known_hosts_and_pages_come_in(vector):
    fields = {"host": vector["host"], "origin": vector["origin"]}

    got = admitted({name: value for name, value in fields.items() if value is not None})

    assert vector["expect"] in ("either", "ok" if got else "no")


@pytest.mark.parametrize(
    ("authority", "name"),
    [
        ("localhost", "localhost"),
        ("LOCALHOST:8765", "localhost"),
        ("127.0.0.1:", "127.0.0.1"),
        ("[::1]:8765", "::1"),
        ("[::1]", "::1"),
        ("::1", ""),
        ("[::1", ""),
        ("[::1]x", ""),
        ("localhost:80:80", ""),
        ("localhost:x", ""),
        ("user@localhost", ""),
        ("localhost/x", ""),
        ("localhost\n", ""),
        ("", ""),
    ],
)
def test_a_host_is_told_from_its_port(authority, name):
    assert host_name(authority) == name


def test_allowed_hosts_are_names_as_a_host_field_has_them():
    given = ["LLM.example.org", "llm.example.org:8443", "::1", "[::1]:80"]

    assert host_names(given) == ("llm.example.org", "llm.example.org", "::1", "::1")


@pytest.mark.parametrize("name", ["https://llm.example.org", "*.example.org", "a/b", ""])
def test_an_allowed_host_that_is_no_name_is_refused(name):
    with pytest.raises(ConfigurationError, match="is none: give a name such as llm"):
        host_names([name])


@pytest.mark.parametrize(
    "host",
    [
        "localhost.evil.example",
        "localhost.",
        "127.0.0.1.nip.io",
        "0.0.0.0",
        "127.0.0.2",
        "[::ffff:127.0.0.1]",
    ],
)
def test_names_that_merely_look_like_this_machine_stay_out(host):
    assert not admitted({"host": host})


def test_any_host_comes_in_where_none_is_asked_for():
    assert admitted({}, hosts=None)


def test_a_listed_page_comes_in():
    assert admitted(
        {"host": "localhost", "origin": "https://notebooks.example"},
        origins=["https://Notebooks.example"],
    )


@pytest.mark.parametrize(
    "origin",
    [
        "https://notebooks.example:444",
        "http://notebooks.example",
        "https://notebooks.example.evil",
        "",
    ],
)
def test_a_page_beside_a_listed_one_stays_out(origin):
    fields = {"host": "localhost", "origin": origin}

    assert not admitted(fields, origins=["https://notebooks.example"])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("authorization", f"Bearer {TOKEN}"),
        ("authorization", f"bearer  {TOKEN} "),
        ("x-api-key", TOKEN),
        ("api-key", TOKEN),
    ],
)
def test_the_token_opens_the_door_and_is_used_up(field, value):
    assert Door(TOKEN, None).check_caller("POST", {field: value}).consumed == (field,)


def test_another_key_beside_the_token_is_left():
    fields = {"authorization": f"Bearer {TOKEN}", "x-api-key": "sk-mine"}

    assert Door(TOKEN, None).check_caller("POST", fields).consumed == ("authorization",)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": TOKEN},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": "Bearer"},
        {"x-api-key": TOKEN[:-1]},
        {"x-api-key": TOKEN + "x"},
        {"x-api-key": "schlüssel"},
        {"x-api-key": "\N{SNOWMAN}"},
        {"cookie": f"token={TOKEN}"},
    ],
)
def test_whatever_is_wrong_with_a_token_the_refusal_is_the_same(fields):
    with pytest.raises(Unauthorized) as refused:
        Door(TOKEN, None).check_caller("POST", fields)

    assert refused.value.message == (
        "the bridge's token is missing or wrong: send it as the API key "
        "('Authorization: Bearer TOKEN' or 'x-api-key: TOKEN')"
    )


def test_without_a_token_keys_of_the_client_pass_but_not_placeholders():
    fields = {"authorization": "Bearer sk-mine", "x-api-key": "llmbridge"}

    assert Door(None, None).check_caller("POST", fields).consumed == ("x-api-key",)


@pytest.mark.parametrize("token", ["", " "])
def test_an_empty_token_is_no_token(token):
    with pytest.raises(ConfigurationError, match="token is empty"):
        Door(token, None)


@pytest.mark.parametrize("kind", ["text/plain", "", "application/jsonp", "multipart/form-data"])
def test_pages_send_json_or_nothing(kind):
    with pytest.raises(Unsupported, match="application/json"):
        Door(None, None).check_caller("POST", {"origin": "https://a", "content-type": kind})


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("POST", {"content-type": "text/plain"}),
        ("POST", {"origin": "https://a", "content-type": "Application/JSON; charset=utf-8"}),
        ("GET", {"origin": "https://a"}),
    ],
)
def test_others_send_what_they_like(method, fields):
    assert Door(None, None).check_caller(method, fields).consumed == ()


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "gzip, identity"])
def test_compressed_bodies_are_refused(encoding):
    with pytest.raises(Unsupported, match="compressed"):
        Door(None, None).check_caller("POST", {"content-encoding": encoding})


@pytest.mark.parametrize("name", ["host", "origin", "authorization", "x-api-key"])
def test_a_field_that_decides_is_sent_once(name):
    with pytest.raises(RequestError, match=f"repeats {name}"):
        fields_by_name([(name, "a"), ("accept", "b"), (name, "c")])


def test_other_fields_may_come_again():
    fields = fields_by_name([("accept", "a"), ("accept", "b")])

    assert fields == {"accept": "b"}


def test_the_token_is_not_in_a_refusal():
    with pytest.raises(BridgeError) as refused:
        Door(TOKEN, None).check_caller("POST", {"x-api-key": "guess"})

    assert TOKEN not in str(refused.value)
    assert "guess" not in str(refused.value)


ALICE = Person("alice", "llmb_alices-own-token")
DOOR = Door(None, None, people=People([ALICE]))


def test_the_token_of_a_person_opens_the_door_and_names_them():
    fields = {"authorization": "Bearer llmb_alices-own-token", "x-api-key": "sk-mine"}

    assert DOOR.check_caller("POST", fields) == Admitted(("authorization",), ALICE)


def test_where_people_have_tokens_everybody_else_stays_out_with_the_same_words():
    told = set()
    for fields in ({}, {"x-api-key": "llmbridge"}, {"x-api-key": "llmb_alices-own-tokem"}):
        with pytest.raises(Unauthorized) as caught:
            DOOR.check_caller("POST", fields)
        told.add(caught.value.message)

    assert len(told) == 1


def test_the_servers_own_token_is_nobodys():
    door = Door(TOKEN, None, people=People([ALICE]))

    admitted = door.check_caller("POST", {"x-api-key": TOKEN, "api-key": "llmb_alices-own-token"})

    assert admitted == Admitted(("x-api-key", "api-key"), None)


def test_where_people_have_tokens_no_other_is_made_up():
    people = People([ALICE])

    assert token_for("auto", spends_keys=True, people=people) is None
    assert token_for("auto", spends_keys=True) is not None
    assert token_for(TOKEN, spends_keys=True, people=people) == TOKEN
