"""The table of what other systems do is made from marks that exist."""

from pathlib import Path

import pytest

from tests import compatibility


def test_every_mark_names_a_row_that_is_there() -> None:
    rows = compatibility.held()

    assert {system for system, _ in rows} == set(compatibility.SYSTEMS)


@pytest.mark.parametrize(
    ("test", "row", "told"),
    [
        ("test_x", 99, "test_x holds row 99 of 'bitop': there is none"),
        ("helper", 1, "helper is no test, and holds row 1 of 'bitop'"),
    ],
)
def test_a_mark_that_cannot_be_is_refused(
    test: str, row: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = f'import pytest\n@pytest.mark.feature("bitop", {row})\ndef {test}():\n    assert True\n'
    (tmp_path / "test_x.py").write_text(code, "utf-8")
    monkeypatch.setattr(compatibility, "TESTS", tmp_path)

    with pytest.raises(ValueError, match=told):
        compatibility.held()
