"""For whom a call is made, where code of this process says so."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace

from llmbridge.errors import ConfigurationError
from llmbridge.exchange.call import Caller

_Actor = tuple[str, Mapping[str, str]]

_acting: ContextVar[_Actor | None] = ContextVar("llmbridge_actor", default=None)


@contextmanager
def acting(name: str, metadata: Mapping[str, str]) -> Generator[None]:
    """Requests that enter within the block, in this thread or task, are made for this actor.

    Raises:
        ConfigurationError: the name is none.
    """
    token = _acting.set((checked_name(name), {key: str(metadata[key]) for key in metadata}))
    try:
        yield
    finally:
        _acting.reset(token)


def acted(caller: Caller) -> Caller:
    """The caller, with the actor of the block that this is in; that counts more than what the request says itself."""
    actor = _acting.get()
    return caller if actor is None else replace(caller, actor=actor[0], metadata=actor[1])


def checked_name(name: object) -> str:
    """An actor's name, which may go into a header.

    Raises:
        ConfigurationError: it is no text, empty, or has a control character or a space at an end.
    """
    if not isinstance(name, str) or not name or name != name.strip() or not name.isprintable():
        raise ConfigurationError(
            f"{name!r} is no name of an actor: give one line of text, without spaces around it"
        )
    return name
