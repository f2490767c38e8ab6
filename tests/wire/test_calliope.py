"""Names, times and scores of Calliope's protocol."""

import pytest

from llmbridge.errors import RequestError
from llmbridge.wire.calliope import (
    ModelName,
    parse_model_name,
    proxied_model,
    read_web_items,
    secret_name,
    timestamp,
    without_properties,
)


@pytest.mark.feature("calliope", 11)
@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("owner/package/provider/model", ("owner", "package", "provider", "model")),
        (
            "owner/package/provider/model/with/slashes",
            ("owner", "package", "provider", "model/with/slashes"),
        ),
        ("//openai/gpt-4", ("", "", "openai", "gpt-4")),
    ],
)
def test_a_model_name_has_four_parts(name: str, parts: tuple[str, str, str, str]) -> None:
    assert parse_model_name(name) == ModelName(*parts)


@pytest.mark.feature("calliope", 11)
@pytest.mark.parametrize(
    "name", ["", "owner/package", "owner/package/provider", "a/b//m", "a/b/c/"]
)
def test_without_provider_or_model_it_is_none(name: str) -> None:
    with pytest.raises(RequestError, match="Invalid model string format"):
        parse_model_name(name)


@pytest.mark.feature("calliope", 2)
def test_the_time_ends_with_half_the_minute_and_ten() -> None:
    assert timestamp(1_700_000_000_123, 47) == "17000000001" + "33"


@pytest.mark.parametrize(
    ("location", "found"),
    [
        ("env:OPENAI_API_KEY", ("env", "OPENAI_API_KEY")),
        ("models_add_on:owner/block/KEY", ("models_add_on", "KEY")),
        ("organization:acme/KEY", ("organization", "KEY")),
        ("nothing", ("nothing", "")),
    ],
)
def test_a_location_ends_with_the_name_of_the_secret(location: str, found: tuple[str, str]) -> None:
    assert secret_name(location) == found


def test_properties_go_at_every_depth() -> None:
    value = {"a": [{"calliopeProperties": 1, "b": {"continueProperties": {}, "c": 2}}]}

    assert without_properties(value) == {"a": [{"b": {"c": 2}}]}


@pytest.mark.parametrize("uri", [{"type": "url", "value": "https://x"}, "https://x"])
def test_results_of_either_kind_are_read(uri: object) -> None:
    found = read_web_items([{"name": "T", "description": "d", "content": "c", "uri": uri}])

    assert found == [{"title": "T", "description": "d", "content": "c", "url": "https://x"}]


@pytest.mark.feature("calliope", 15, 16)
@pytest.mark.parametrize(
    ("model", "named"),
    [("gpt-4", "//openai/gpt-4"), ("acme/pack/openai/gpt-4", "acme/pack/openai/gpt-4")],
)
def test_a_model_whose_key_only_the_proxy_knows_is_led_there(model: str, named: str) -> None:
    key = "${{ secrets.organization:acme/OPENAI_API_KEY }}"
    config = {"provider": "openai", "model": model, "apiKey": key, "title": "T"}

    assert proxied_model(config, "acme", "https://proxy.acme") == {
        "provider": "calliope-proxy",
        "model": named,
        "title": "T",
        "apiKeyLocation": "organization:acme/OPENAI_API_KEY",
        "orgScopeId": "acme",
        "onPremProxyUrl": "https://proxy.acme",
    }


def test_a_model_with_a_key_of_its_own_is_left_alone() -> None:
    config = {"provider": "openai", "model": "gpt-4", "apiKey": "sk-1"}

    assert proxied_model(config) == config


def test_a_secret_of_no_known_kind_is_an_error() -> None:
    with pytest.raises(ValueError, match="Invalid secret type: env"):
        proxied_model({"apiKey": "${{ secrets.env:HOME }}"})
