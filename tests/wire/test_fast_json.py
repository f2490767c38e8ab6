import msgspec
import pytest

from llmbridge.wire.fast_json import loads, typed


class Delta(msgspec.Struct):
    text: str = ""


def test_unknown_keys_are_passed_over() -> None:
    assert typed(Delta)('{"text":"a","more":{"x":[1]}}') == Delta("a")


def test_half_of_a_surrogate_pair_loses_that_character_alone() -> None:
    assert typed(Delta)(b'{"text":"a\\ud83d"}') == Delta("a\ufffd")


@pytest.mark.parametrize(
    "text", ["", "{", '{"text": NaN}', '{"text":"\\u12"}', b"\xff", "[" * 9**6]
)
def test_every_failure_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # whatever the parser says
        loads(text)
