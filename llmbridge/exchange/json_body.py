"""A request's body as JSON, or the refusal that says why it is none."""

from typing import Any

from llmbridge.canon.strict_json import loads_strict
from llmbridge.errors import RequestError
from llmbridge.exchange.call import Request
from llmbridge.wire.loose_json import is_object


def json_body(request: Request) -> dict[str, Any]:
    """The object that the body is; an empty body is an empty one.

    Raises:
        RequestError: it is something else.
    """
    try:
        body = loads_strict(request.body or b"{}")
    except ValueError as error:
        raise RequestError(f"the body is not JSON: {error}") from None
    if not is_object(body):
        raise RequestError("the body is not a JSON object: send one")
    return body
