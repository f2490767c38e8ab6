import pytest

from llmbridge.pytest_plugin.summary import Tally
from tests.pytest_plugin.project import Project

pytest_plugins = ["pytester"]

ASK = """
import pytest

@pytest.mark.llm_cassette
def test_noon(llm_bridge):
    for model in {models}:
        llm_bridge.openai().responses.create(model=model, input="What time is it?")
"""


def told(cost_usd: float, unpriced: int) -> str:
    counted = Tally()
    counted.counts["played"] = 2
    counted.tokens, counted.cost_usd, counted.unpriced = 1234, cost_usd, unpriced
    sent = Tally()
    sent.take(counted.plain())
    return sent.line()


@pytest.mark.parametrize(
    ("cost_usd", "unpriced", "money"),
    [
        (0.0121, 0, " and $0.0121"),
        (1234.5, 0, " and $1,234.50"),
        (0.00001, 0, " and less than $0.0001"),
        (0.0121, 1, " and at least $0.0121"),
        (0.00001, 1, ""),
        (0.0, 2, ""),
    ],
)
def test_dollars_are_told_as_far_as_prices_are_known(
    cost_usd: float, unpriced: int, money: str
) -> None:
    assert told(cost_usd, unpriced) == f"llmbridge: 2 played, 1,234 tokens{money} not spent"


def test_a_model_without_a_known_price_has_no_dollars(project: Project, provider: object) -> None:
    project.write("test_agent.py", ASK.format(models=["our-own-model"]))

    project.run("--llm-record=once")

    project.run().stdout.fnmatch_lines(["llmbridge: 1 played, * tokens not spent"])


@pytest.mark.parametrize("mode", ["verify", "live", "all", "rewrite"])
def test_nothing_is_saved_where_the_provider_is_asked(
    project: Project, provider: object, mode: str
) -> None:
    project.write("test_agent.py", ASK.format(models=["gpt-5-mini"]))
    project.run("--llm-record=once")

    result = project.run(f"--llm-record={mode}")

    kind = {"verify": "verified", "live": "live"}.get(mode, "recorded")
    result.stdout.fnmatch_lines([f"llmbridge: 1 {kind}"])
