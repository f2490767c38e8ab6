"""What a database says of a failure, in the words of a store."""

from collections.abc import Generator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError

from llmbridge.errors import StoreUnavailable
from llmbridge.exchange.printable import one_line


@contextmanager
def readable(name: str) -> Generator[None]:
    """Read from the database of this name.

    Raises:
        StoreUnavailable: it cannot be read now; says why.
    """
    try:
        yield
    except (OSError, DBAPIError) as error:
        raise StoreUnavailable(f"{name!r} cannot be read: {why(error)}") from error


def why(error: OSError | DBAPIError) -> str:
    """What went wrong, in one line."""
    said = (error.strerror or error) if isinstance(error, OSError) else error.orig
    return one_line(str(said), limit=500)
