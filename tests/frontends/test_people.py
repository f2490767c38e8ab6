from dataclasses import replace
from typing import Any

import pytest

from llmbridge import Person
from llmbridge.errors import ConfigurationError
from llmbridge.exchange.call import Caller
from llmbridge.frontends.people import People, hashed, make_token

TOKEN = "llmb_alices-own-token"
CLAIMED = Caller("server", actor="bob", client="sdk/1", session_id="s", metadata={"team": "blue"})


@pytest.mark.parametrize(
    "token", [TOKEN, hashed(TOKEN), hashed(TOKEN).upper().replace("SHA", "sha")]
)
def test_a_token_or_its_hash_names_the_person(token: str) -> None:
    alice = Person("alice", token)

    people = People([Person("bob", make_token()), alice])

    assert [people.holder(each) for each in (TOKEN, TOKEN + "x", "", hashed(TOKEN), "\udc00é")] == [
        alice,
        None,
        None,
        None,
        None,
    ]


def test_one_person_may_have_two_tokens_while_one_is_exchanged() -> None:
    old, new = make_token(), make_token()

    people = People([Person("alice", (old, hashed(new)))])

    assert (len(people), people.names) == (1, ("alice",))
    assert people.holder(old) is people.holder(new) is not None


def test_a_token_says_for_whom_whatever_the_request_claims() -> None:
    alice = Person("alice", TOKEN, metadata={"team": "red"})

    assert alice.speaking(CLAIMED) == replace(CLAIMED, actor="alice", metadata={"team": "red"})


def test_a_token_that_acts_for_others_lets_the_request_say_for_whom() -> None:
    portal = Person("portal", TOKEN, acts_for_others=True, metadata={"kind": "app"})

    named, unnamed = portal.speaking(CLAIMED), portal.speaking(Caller("server"))

    assert named == replace(CLAIMED, metadata={"team": "blue", "via": "portal"})
    assert unnamed == Caller("server", actor="portal", metadata={"kind": "app"})


def test_a_token_is_never_shown() -> None:
    assert repr(Person("alice", TOKEN)) == (
        "Person(name='alice', acts_for_others=False, metadata={})"
    )


@pytest.mark.parametrize(
    ("name", "token", "complaint"),
    [
        ("", TOKEN, "'' is no name"),
        (7, TOKEN, "7 is no name of an actor: give one line of text"),
        (" alice", TOKEN, "' alice' is no name"),
        ("a\nb", TOKEN, "is no name of an actor: give one line of text"),
        ("alice", "", "shorter than 16 characters"),
        ("alice", "secret", "the token of 'alice' is shorter than 16 characters"),
        ("alice", "a token with spaces", "no header can carry"),
        ("alice", "sha256:1234", "the hash of 'alice' is none"),
        ("alice", (), "'alice' has no token"),
    ],
)
def test_what_cannot_be_a_person_is_refused_without_showing_the_token(
    name: Any, token: str, complaint: str
) -> None:
    with pytest.raises(ConfigurationError, match=complaint) as caught:
        Person(name, token)

    assert not token or str(token) not in caught.value.message


def test_no_two_people_share_a_name_or_a_token() -> None:
    with pytest.raises(ConfigurationError, match="'alice' is there twice"):
        People([Person("alice", make_token()), Person("alice", make_token())])
    with pytest.raises(ConfigurationError, match="'bob' has the token of 'alice'"):
        People([Person("alice", TOKEN), Person("bob", hashed(TOKEN))])
