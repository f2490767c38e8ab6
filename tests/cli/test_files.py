import os
from pathlib import Path

import pytest

from llmbridge.cli.files import File, files_of, on_each
from llmbridge.errors import CassetteError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("a.yaml", "b.json", "notes.txt", "x.chunks.txt", "deep/c.yml", "deep/a.yaml"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name, "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a.yaml"], ["a.yaml"]),
        (["notes.txt"], ["notes.txt"]),
        (["."], ["a.yaml", "b.json", "deep/a.yaml", "deep/c.yml", "x.chunks.txt"]),
        (["*.yaml"], ["a.yaml"]),
        (["**/*.y*ml"], ["a.yaml", "a.yaml", "c.yml"]),
        (
            ["a.yaml", "./a.yaml", "."],
            ["a.yaml", "b.json", "deep/a.yaml", "deep/c.yml", "x.chunks.txt"],
        ),
        (["d*"], ["a.yaml", "c.yml"]),
    ],
)
def test_paths_folders_and_globs_lead_to_files(paths, names, folder):
    assert [file.name for file in files_of(paths)] == names


@pytest.mark.parametrize("path", ["missing.yaml", "*.toml", "empty"])
def test_a_path_to_nothing_is_an_error(path, folder):
    (folder / "empty").mkdir()

    with pytest.raises(CassetteError, match="there is no cassette at"):
        files_of([path])


def test_a_file_keeps_its_place_below_another_folder():
    file = File(Path("/x/deep/c.yml"), "deep/c.yml")

    assert file.below(Path("out")) == Path("out/deep/c.yml")
    assert file.below(Path("out"), ".yaml") == Path("out/deep/c.yaml")


def length(path: Path) -> int:
    if path.name == "c.yml":
        raise CassetteError("bad")
    return path.stat().st_size


def test_each_file_has_a_result_or_an_error(folder):
    outcomes = list(on_each(length, files_of(["."])))

    assert [outcome.result for outcome in outcomes] == [6, 6, 11, None, 12]
    assert [outcome.error for outcome in outcomes] == [None, None, None, "bad", None]


def test_much_work_is_done_in_other_processes(folder):
    for index in range(40):
        (folder / f"{index:02}.yaml").write_bytes(b"x" * 300_000)

    outcomes = list(on_each(os.path.getsize, files_of(["[0-9]*.yaml"])))

    assert [outcome.result for outcome in outcomes] == [300_000] * 40
