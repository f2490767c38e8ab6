import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbridge.errors import CassetteError
from llmbridge.stores.cassette import Cassette
from llmbridge.stores.cassette_path import cassette_path
from tests.shared import SHARED, needs_shared
from tests.stores.recordings import STREAMED


def vectors() -> Iterator[Any]:
    if SHARED is None:
        return
    said = json.loads((SHARED / "conformance/security/basic.json").read_text("utf-8"))
    for vector in said["cassette_names"]:
        yield pytest.param(vector["name"], vector["expect"] == "ok", id=vector["why"])


@needs_shared
@pytest.mark.parametrize(("name", "fine"), [*vectors()])
def test_names_are_taken_and_refused_as_the_vectors_say(name, fine, tmp_path):
    try:
        cassette_path(tmp_path, name)
    except CassetteError:
        taken = False
    else:
        taken = True

    assert taken is fine


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("test_a", "test_a.yaml"),
        ("mod/test_a[x-1]", "mod/test_a[x-1].yaml"),
        ("a/b/c.yml", "a/b/c.yml"),
        ("a.json", "a.json"),
        ("test_a[1.5]", "test_a[1.5].yaml"),
        ("test_a[..]", "test_a[..].yaml"),
        (".hidden", ".hidden.yaml"),
        ("é 🙂", "é 🙂.yaml"),
        ("test_a[what?]", "test_a[what-].yaml"),
        ("test_a[http:]", "test_a[http-].yaml"),
        ("console", "console.yaml"),
        ("com10", "com10.yaml"),
        ("blank /x. /y", "blank/x/y.yaml"),
    ],
)
def test_a_name_is_a_path_below_the_folder(name, path, tmp_path):
    assert cassette_path(tmp_path, name) == tmp_path / path


@pytest.mark.parametrize(
    "name",
    [
        "..",
        ".",
        "a/..",
        "a/./b",
        "a//b",
        "a/",
        "//host/share",
        "\\\\host\\share",
        "..\\evil",
        "a\\b",
        "C:evil",
        "c:/evil",
        "C:\\evil",
        "...",
        ".. ",
        "a/.. /b",
        " ",
        "a\nb",
        "a\rb",
        "a\x1bb",
        "a\x7fb",
        "a\x85b",
        "a\u2028b",
        "\ud800",
        "nul",
        "NUL.yaml",
        "Con",
        "aux.txt/x",
        "a/lpt1",
        "com¹",
        "con .x",
    ],
)
def test_what_leaves_the_folder_or_can_be_no_file_is_refused_by_name(name, tmp_path):
    with pytest.raises(CassetteError, match="is no name for a cassette: it ") as error:
        cassette_path(tmp_path, name)

    assert repr(name) in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("link", ["file", "folder"])
def test_a_link_that_leaves_the_folder_is_refused(link, tmp_path):
    folder, outside = tmp_path / "cassettes", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    if link == "file":
        (folder / "x.yaml").symlink_to(outside / "x.yaml")
    else:
        (folder / "sub").symlink_to(outside)

    with pytest.raises(CassetteError, match="symbolic link"):
        cassette_path(folder, "x" if link == "file" else "sub/x")


def test_a_link_within_the_folder_and_a_folder_that_is_a_link_are_followed(tmp_path):
    real, folder = tmp_path / "real", tmp_path / "cassettes"
    (real / "a").mkdir(parents=True)
    (real / "b").symlink_to(real / "a")
    folder.symlink_to(real)

    assert cassette_path(folder, "b/x") == folder / "b" / "x.yaml"


def test_long_names_end_in_a_hash_and_stay_apart(tmp_path):
    long = [f"mod/test_a[{'é' * 300}{end}]" for end in "ab"]

    paths = [cassette_path(tmp_path, name) for name in long]

    assert paths[0] != paths[1]
    assert paths == [cassette_path(tmp_path, name) for name in long]
    for path in paths:
        Cassette(path, [STREAMED]).save()
        assert len(Cassette.load(path)) == 1


@given(st.text("ab./\\:. \n\0~é[]-" + "x" * 5, max_size=30) | st.text(max_size=30))
def test_no_name_leads_out_of_the_folder(name):
    folder = Path("/nowhere/cassettes")

    try:
        path = cassette_path(folder, name)
    except CassetteError:
        return

    assert path.resolve().is_relative_to(folder)
    assert path.resolve() != folder
