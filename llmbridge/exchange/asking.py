"""A question in canon as the request that a provider of the table is asked."""

from collections.abc import Mapping

from llmbridge.canon.messages import Ask, Context, JsonObject, Model
from llmbridge.errors import ConfigurationError
from llmbridge.exchange.actors import acted
from llmbridge.exchange.call import Caller, Headers, Request
from llmbridge.providers import Provider, dialect_named
from llmbridge.wire.dialect import Dialect
from llmbridge.wire.error_bodies import dump


def question(
    providers: Mapping[str, Provider], model: Model, context: Context, options: JsonObject | None
) -> tuple[Dialect, Request]:
    """The request, and the dialect that its answer comes in; the answer is a stream.

    Raises:
        ConfigurationError: `model` names a provider or dialect that is not there.
    """
    provider = providers.get(model.provider)
    if provider is None:
        raise ConfigurationError(
            f"no provider {model.provider!r}: there are {', '.join(providers)}"
        )
    dialect = dialect_named(model.api or provider.dialects[0])
    if dialect.name not in provider.dialects:
        raise ConfigurationError(
            f"{model.provider!r} does not speak {model.api!r}: it speaks {provider.dialects}"
        )
    body = dump(dialect.encode_request(Ask(model.id, context, True, options or {})))
    request = Request(
        "POST",
        f"http://localhost/{provider.name}{dialect.target(model.id, streaming=True)}",
        Headers((("content-type", "application/json"),)),
        body,
        acted(Caller("stream")),
    )
    return dialect, request
