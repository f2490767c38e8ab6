"""Where a test's cassette lies: where pytest-recording would look for it."""

from pathlib import Path

import pytest

from llmbridge.errors import CassetteError
from llmbridge.stores.cassette_path import cassette_path

# What pytest-recording forbids.
_PLAIN = str.maketrans(dict.fromkeys("<>?%*:|\"'/\\", "-"))


def cassette_of(item: pytest.Item, name: str | None) -> Path:
    """`cassettes/MODULE/TEST.yaml` beside the test's file; `name` stands for TEST, and may hold folders.

    Raises:
        pytest.UsageError: the name can be none of a cassette.
    """
    folder = item.path.parent / "cassettes" / item.path.stem
    try:
        return cassette_path(folder, _usual_name(item) if name is None else name)
    except CassetteError as error:
        raise pytest.UsageError(error.message) from error


def _usual_name(item: pytest.Item) -> str:
    named = item.get_closest_marker("default_cassette")  # pytest-recording's
    if named is not None and named.args:
        return str(named.args[0]).translate(_PLAIN)
    of_class = getattr(item, "cls", None)
    name = f"{of_class.__name__}.{item.name}" if of_class else item.name
    return name.translate(_PLAIN)
