"""Where a test's cassette lies: where pytest-recording would look for it."""

from pathlib import Path
from typing import Any

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


def clash(item: pytest.Item, path: Path, *, writing: bool) -> str | None:
    """Why a test may not go on that is vcrpy's as well: both have this file, and one of them would write to it.

    Known once the fixtures are made. A file that both only read is fine: it is how vcrpy recorded it.
    """
    theirs: Any = getattr(item, "funcargs", {}).get("vcr")  # pytest-recording's fixture
    file: str | None = getattr(theirs, "_path", None)
    if file is None or Path(file).resolve() != path.resolve():
        return None
    if not writing and getattr(theirs, "write_protected", True):
        return None
    name = path.stem.partition("[")[0]
    return (
        f"@pytest.mark.vcr and @pytest.mark.llm_cassette would both write {path}: give llmbridge's file another name,"
        f" @pytest.mark.llm_cassette({f'{name}.llm'!r}), and in vcr_config let vcrpy pass what llmbridge asks:"
        ' {"ignore_localhost": True, "ignore_hosts": [the provider\'s host]}'
    )


def _usual_name(item: pytest.Item) -> str:
    named = item.get_closest_marker("default_cassette")  # pytest-recording's
    if named is not None and named.args:
        return str(named.args[0]).translate(_PLAIN)
    of_class = getattr(item, "cls", None)
    name = f"{of_class.__name__}.{item.name}" if of_class else item.name
    return name.translate(_PLAIN)
