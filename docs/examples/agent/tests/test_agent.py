import json

import pytest
from agent import Agent

from llmbridge import calls, fail


def test_it_looks_before_it_books():
    agent = Agent()

    answer = agent.ask("Somewhere warm for three days, Lisbon or Oslo: book the better one.")

    assert agent.booked == [("Lisbon", 3)]
    assert answer == "Lisbon it is: 19 degrees and no rain. Your three days are booked."


@pytest.mark.parametrize("city", ["Lisbon", "Oslo"])
def test_it_tells_the_weather(city, llm_cassette):
    answer = Agent().ask(f"How is the weather in {city}?")

    assert "degrees" in answer
    assert len(llm_cassette.played) == 2


def test_it_gives_up_on_a_model_that_never_stops(fake_llm):
    fake_llm(*[calls("weather", city="Oslo")] * 5)

    answer = Agent().ask("How is the weather in Oslo?")

    assert answer == "Sorry, that was too much for me."


def test_it_tries_again_where_the_provider_is_overloaded(fake_llm):
    fake_llm(fail(529, retry_after=0), "Here I am.")

    assert Agent().ask("Are you there?") == "Here I am."


def test_it_shows_the_model_what_the_tool_said(fake_llm):
    fake_llm(calls("weather", city="Oslo"), "It is cold.")

    Agent().ask("How is the weather in Oslo?")

    result = fake_llm.asks[-1].context.messages[-1].content[0]
    assert "2 degrees, snow" in str(result)
    assert json.loads(fake_llm.records[0].request.body)["stream"] is True
