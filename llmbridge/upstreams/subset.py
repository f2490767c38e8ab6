"""What JSON was expected and is not there."""

from collections.abc import Iterator

from llmbridge.wire.loose_json import is_list, is_object


def difference(expected: object, actual: object) -> str:
    """The first place where `actual` does not hold `expected`, as a JSON path; empty where it holds it all.

    Objects may have further keys; lists are as long; `...` stands for anything.
    """
    return next(_differences(expected, actual, "$"), "")


def _differences(expected: object, actual: object, path: str) -> Iterator[str]:
    if expected is ...:
        return
    if is_object(expected) and is_object(actual):
        for key, value in expected.items():
            if key in actual:
                yield from _differences(value, actual[key], f"{path}.{key}")
            else:
                yield f"{path}.{key}: expected {value!r}, there is none"
    elif is_list(expected) and is_list(actual):
        if len(expected) != len(actual):
            yield f"{path}: expected {len(expected)} items, there are {len(actual)}"
        for place, (value, there) in enumerate(zip(expected, actual, strict=False)):
            yield from _differences(value, there, f"{path}[{place}]")
    elif expected != actual:
        yield f"{path}: expected {expected!r}, was {actual!r}"
