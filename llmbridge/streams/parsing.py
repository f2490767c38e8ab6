"""Arguments of a tool call that are still under way."""

from typing import Any

from llmbridge.canon.partial_json import parse_partial
from llmbridge.wire.loose_json import is_object


def parse_streaming_json(json_str: str) -> dict[str, Any] | None:
    """The object that this beginning of a JSON text already determines; None when it determines none.

    An open string is taken as it stands: `{"query": "hello` gives `{"query": "hello"}`. tinyagent's documentation says the
    same, but its code (1.2) gives None there, wherever text ends inside a string, after a comma or a colon, inside an
    array, or behind a closed inner object, so that its arguments flicker while they stream; these do not. Both give None for
    what is no object, and for text behind one; `NaN`, which tinyagent takes, is no JSON and gives None here.
    """
    try:
        value = parse_partial(json_str)
    except ValueError:
        return None
    return value if is_object(value) else None
