"""The table of what other systems do is made from marks that exist."""

from pathlib import Path

import pytest

from tests import compatibility


def test_every_mark_names_a_row_that_is_there() -> None:
    rows = compatibility.held()

    assert {system for system, _ in rows} == set(compatibility.SYSTEMS)


def test_a_mark_of_no_row_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    test = 'import pytest\n@pytest.mark.feature("bitop", 99)\ndef test_x():\n    assert True\n'
    (tmp_path / "test_x.py").write_text(test, "utf-8")
    monkeypatch.setattr(compatibility, "TESTS", tmp_path)

    with pytest.raises(ValueError, match="row 99 of 'bitop': there is none"):
        compatibility.held()
