import copy
import inspect
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, astuple, dataclass, field, fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbridge.canon.quick import quick


@dataclass(frozen=True, slots=True)
class Standard:
    """As the standard library makes it."""

    id: str
    count: int = 0
    seen: list[str] = field(default_factory=list[str])
    note: str | None = field(default=None, kw_only=True, compare=False)


@quick
@dataclass(frozen=True, slots=True)
class Quick:
    """The same, quick."""

    id: str
    count: int = 0
    seen: list[str] = field(default_factory=list[str])
    note: str | None = field(default=None, kw_only=True, compare=False)


@quick
@dataclass(frozen=True)
class Open:
    """Without slots."""

    id: str


class Closer(Open):
    """Inherits."""


@quick
@dataclass(frozen=True, slots=True, weakref_slot=True)
class Watched:
    """Laid out as no twin is, in some versions of Python."""

    id: str


@given(
    st.lists(st.one_of(st.text(), st.integers(), st.lists(st.text())), max_size=4),
    st.dictionaries(st.sampled_from(["id", "count", "seen", "note", "other"]), st.text()),
)
def test_it_takes_what_the_standard_one_takes_and_refuses_what_it_refuses(positional, named):
    def made(kind):
        try:
            return astuple(kind(*positional, **named))
        except TypeError as error:
            return str(error).replace("Standard", "Quick")

    assert made(Quick) == made(Standard)


def test_it_has_the_signature_of_the_standard_one():
    assert inspect.signature(Quick) == inspect.signature(Standard)


def test_each_object_gets_a_list_of_its_own():
    one, other = Quick("a"), Quick("b")
    one.seen.append("x")

    assert (one.seen, other.seen) == (["x"], [])


@pytest.mark.parametrize("made", [Quick("a"), Open("a"), Closer("a")], ids=lambda made: type(made))
def test_it_is_frozen(made):
    with pytest.raises(FrozenInstanceError):
        made.id = "b"
    with pytest.raises(FrozenInstanceError):
        del made.id

    assert made.id == "a"


def test_what_inherits_is_made_too():
    assert (Closer("a").id, type(Closer("a"))) == ("a", Closer)


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made)), replace]
)
@pytest.mark.parametrize("made", [Quick("a", 1, ["b"], note="c"), Open("a")], ids=["slots", "open"])
def test_a_copy_is_equal_and_of_the_same_class(made, again):
    copied = again(made)

    assert (copied, type(copied)) == (made, type(made))
    assert [getattr(copied, each.name) for each in fields(made)] == [
        getattr(made, each.name) for each in fields(made)
    ]


def test_where_objects_cannot_change_their_class_they_are_made_as_ever():
    made = Watched("a")

    assert (made.id, type(made), weakref.ref(made)()) == ("a", Watched, made)
    with pytest.raises(FrozenInstanceError):
        made.id = "b"  # type: ignore[misc]  # that is what is tried


def test_threads_do_not_see_each_others():
    def make(name: str) -> bool:
        return all(
            (Quick(name, count).count, Open(name).id) == (count, name) for count in range(5000)
        )

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(make, "abcd"))


def test_what_would_be_left_out_is_refused():
    @dataclass(frozen=True)
    class Checked:
        id: str

        def __post_init__(self) -> None:
            raise ValueError

    @dataclass(frozen=True)
    class Hidden:
        id: str = field(init=False, default="")

    for kind in (Checked, Hidden):
        with pytest.raises(AssertionError):
            quick(kind)
