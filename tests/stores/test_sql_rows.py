from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects.sqlite import dialect

from llmbridge.stores.sql_rows import interception_of, interception_row, record_of, record_row
from llmbridge.stores.sql_schema import AnyText
from tests.stores.kept import answered, asked

SQLITE = dialect()


@given(st.text(st.characters(codec=None, exclude_categories=())))
def test_any_text_comes_back_from_what_a_database_can_keep(text):
    column = AnyText()

    kept = column.process_bind_param(text, SQLITE)

    assert kept is not None
    assert "\0" not in kept.encode().decode()
    assert column.process_result_value(kept, SQLITE) == text


@given(st.lists(st.tuples(st.floats(0, 1e6), st.binary(max_size=9))), st.text())
def test_a_record_comes_back_from_its_row(chunks, error):
    record = replace(answered("a"), chunks=tuple(chunks), error=error)

    back = record_of(record_row(record))

    assert (back, back.chunks) == (record, record.chunks)


def test_an_interception_comes_back_from_its_row():
    assert interception_of(interception_row(asked("a", end="truncated"))) == asked(
        "a", end="truncated"
    )
