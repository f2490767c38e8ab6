"""llmbridge.exchange.answer_ids."""

import pytest

from llmbridge import Bridge, Script
from llmbridge.exchange.answer_ids import interception_ids
from tests.exchange.sdk_talks import TALKS

STREAMING = pytest.mark.parametrize("streaming", [True, False], ids=["stream", "block"])


@pytest.mark.feature("gateway", 21)
@STREAMING
@pytest.mark.parametrize("kind", ["anthropic", "chat"])
def test_an_answer_has_the_interceptions_id_where_that_is_wanted(kind: str, streaming: bool):
    with Bridge(Script("Hi."), interceptors=[interception_ids]) as bridge:
        heard = TALKS[kind](bridge, streaming).say("Hi")
        [record], [interception] = bridge.records, bridge.interceptions

    assert (heard.text, heard.raw.id) == ("Hi.", interception.id)
    assert record.message is not None
    assert record.message.response_id != interception.id


@pytest.mark.feature("gateway", 21)
@STREAMING
@pytest.mark.parametrize("kind", ["anthropic", "chat", "responses"])
def test_it_has_the_providers_own_otherwise(kind: str, streaming: bool):
    interceptors = [interception_ids] if kind == "responses" else []
    with Bridge(Script("Hi."), interceptors=interceptors) as bridge:
        heard = TALKS[kind](bridge, streaming).say("Hi")
        [record] = bridge.records

    assert record.message is not None
    assert heard.raw.id == record.message.response_id
