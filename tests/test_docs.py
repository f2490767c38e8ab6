"""The README and the pages in `docs/` hold: code runs and prints what stands below it, commands exist, tables are current."""

import atexit
import gc
import io
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE, OutputChecker
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import llmbridge
from llmbridge import Bridge, Script
from llmbridge.cli import app
from llmbridge.configuration import Configuration
from llmbridge.frontends.variables import SDKS
from tests import api, reference

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
_FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"`(llmbridge (?!listening)[^`]+|make [^`]+)`")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block; `line` is that of its first line in the page."""

    language: str
    text: str
    line: int
    end: int


@dataclass(frozen=True, slots=True)
class Example:
    """Code and, where the page shows it, what it prints."""

    code: Block
    output: Block | None


def blocks(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    return [
        Block(found[1], found[2], text.count("\n", 0, found.start(2)) + 1, found.end())
        for found in _FENCED.finditer(text)
    ]


def examples(page: Path) -> Iterator[Example]:
    text, found = page.read_text("utf-8"), blocks(page)
    for block, after in zip(found, [*found[1:], None], strict=True):
        if block.language in ("python", "ipython"):
            shown = (
                after is not None
                and after.language == "text"
                and text[block.end : after.end].strip().startswith("```text")
            )
            yield Example(block, after if shown else None)


def commands(page: Path) -> Iterator[str]:
    """What the page tells the reader to type: lines of console blocks, and commands in its text."""
    text = page.read_text("utf-8")
    for block in blocks(page):
        if block.language == "console":
            yield from (line[2:] for line in block.text.splitlines() if line.startswith("$ "))
    yield from _COMMAND.findall(_FENCED.sub("", text))


SET = {"BOBS_TOKEN": "llmb_a-token-of-a-test-for-bob"}
"""The variables that a page tells its reader to set, for the files it shows."""


def title(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def in_terms_of(pages: list[Path], language: str) -> list[Path]:
    return [page for page in pages if any(block.language == language for block in blocks(page))]


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """What the pages call live is a script on this machine: the SDKs' variables lead to it. Its URLs, and the real ones."""
    with Bridge(Script(*["It is noon."] * 50)) as bridge, bridge.serve() as server:
        for name, value in server.env().items():
            monkeypatch.setenv(name, value)
        yield {f"{server.url}/{row.name}{row.prefix}": row.base_url for row in SDKS}


# Some pages run pytest several times, each in a process that loads the SDKs.
@pytest.mark.parametrize("page", in_terms_of(PAGES, "python"), ids=title)
def test_the_code_of_a_page_runs_and_prints_what_the_page_shows(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stand_ins: dict[str, str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    names: dict[str, Any] = {"__name__": "__main__"}

    printed = [(example, _run(example.code, page, names)) for example in examples(page)]
    _close(names)
    gc.collect()

    assert [
        (example.output.text, output)
        for example, output in printed
        if example.output and not _matches(example.output.text, _as_read(output, stand_ins))
    ] == []


def _as_read(output: str, stand_ins: dict[str, str]) -> str:
    """What a reader sees, whose variables lead nowhere else."""
    for here, real in stand_ins.items():
        output = output.replace(here, real)
    return output


def _run(code: Block, page: Path, names: dict[str, Any]) -> str:
    """What the block prints; a block with tests in it is a file of its own, for pytest."""
    # Blank lines in front: a traceback shows the line of the page.
    lines = "\n" * (code.line - 1) + code.text
    if "def test_" in code.text:
        return _tested(f"test_line_{code.line}.py", lines)
    with redirect_stdout(io.StringIO()) as output:
        if code.language == "ipython":
            _shell(names).run_cell(code.text).raise_error()
            return output.getvalue()
        exec(compile(lines, page, "exec", dont_inherit=True), names)
    return output.getvalue()


def _shell(names: dict[str, Any]) -> Any:
    """An IPython shell of the page, which has its variables."""
    if "get_ipython" not in names:
        from IPython.core.interactiveshell import InteractiveShell
        from traitlets.config import Config

        quiet = Config({"HistoryManager": {"enabled": False}})
        names["get_ipython"] = InteractiveShell(config=quiet, user_ns=names).get_ipython
    return names["get_ipython"]()


def _close(names: dict[str, Any]) -> None:
    """Let go of what the page made."""
    if "get_ipython" in names:
        atexit.unregister(names["get_ipython"]().atexit_operations)
        names["get_ipython"]().atexit_operations()
    for value in names.values():
        if isinstance(value, Bridge):
            value.close()
    names.clear()


def _tested(name: str, lines: str) -> str:
    Path(name).write_text(lines, "utf-8")
    # pytest-asyncio warns where its own settings are missing; Hypothesis takes half a second to load.
    without = ["-p", "no:cacheprovider", "-p", "no:asyncio", "-p", "no:hypothesispytest"]
    # What a page's tests replay is recorded from what the page calls live.
    recording = ["--llm-record=once"] if "llm_cassette" in lines else []
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", *without, *recording, name]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout
    return done.stdout


def _matches(shown: str, output: str) -> bool:
    """An ellipsis stands for anything, and a run of blanks is as good as another."""
    return OutputChecker().check_output(shown, output, ELLIPSIS | NORMALIZE_WHITESPACE)


@pytest.mark.parametrize("page", in_terms_of(PAGES, "yaml"), ids=title)
def test_the_files_of_a_page_configure_a_bridge(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    texts = [block.text for block in blocks(page) if block.language == "yaml"]

    for text in texts:
        Path("shown.yaml").write_text(text, "utf-8")
        Configuration.load("shown.yaml", SET).bridge(environ={}).close()


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_every_fence_is_one_that_is_checked(page: Path) -> None:
    fences = [
        line for line in page.read_text("utf-8").splitlines() if line.lstrip().startswith("```")
    ]

    assert len(fences) == 2 * len(blocks(page))
    assert {block.language for block in blocks(page)} <= {
        *("python", "ipython", "text", "console", "yaml")
    }


@pytest.mark.parametrize(
    "command",
    sorted({command for page in PAGES for command in commands(page) if "llmbridge " in command}),
)
def test_every_command_that_a_page_names_is_one(command: str) -> None:
    _, _, told = command.partition("llmbridge ")

    _parse(shlex.split(told, comments=True))


def _parse(words: list[str]) -> None:
    """Parse what is typed after `llmbridge`, without running it."""
    group: Any = get_command(app)
    if words[0].startswith("-"):
        group.make_context("llmbridge", words, resilient_parsing=True)
        return
    while hasattr(group, "commands") and words:
        assert words[0] in group.commands
        group, words = group.commands[words[0]], words[1:]
    group.make_context("llmbridge", words, resilient_parsing=not words)


@pytest.mark.parametrize(
    "target",
    sorted(
        {command for page in PAGES for command in commands(page) if command.startswith("make ")}
    ),
)
def test_every_target_that_a_page_names_is_in_the_makefile(target: str) -> None:
    name = target.split()[1]

    assert re.search(rf"^{name}:", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)


def test_the_readme_shows_what_the_demo_prints() -> None:
    shown = next(block.text for block in blocks(ROOT / "README.md") if block.language == "text")
    command = [sys.executable, "-m", "llmbridge", "demo", "--speed", "0", "--plain"]

    output = subprocess.run(command, capture_output=True, check=True, encoding="utf-8").stdout

    assert _matches(f"...{shown}...", output), output


@pytest.mark.parametrize("name", reference.PAGES)
def test_the_reference_says_what_the_code_says(name: str) -> None:
    page = (reference.DOCS / name).read_text("utf-8")

    assert page == reference.filled(name, page), "run: python -m tests.reference"


def test_every_public_name_is_in_the_reference() -> None:
    names = [name for names in api.SECTIONS.values() for name in names.split()]

    assert sorted(names) == llmbridge.__all__


def test_every_page_is_in_the_navigation() -> None:
    settings = tomllib.loads((ROOT / "zensical.toml").read_text("utf-8"))
    there = {
        page.relative_to(ROOT / "docs").as_posix() for page in PAGES if page != ROOT / "README.md"
    }

    assert set(_leaves(settings["project"]["nav"])) == there


def _leaves(nav: Any) -> Iterator[str]:
    match nav:
        case str():
            yield nav
        case dict():
            for value in nav.values():
                yield from _leaves(value)
        case _:
            for item in nav:
                yield from _leaves(item)
