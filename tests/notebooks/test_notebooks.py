"""The notebooks in `notebooks/` run without a key or a network, show what they promise, and are kept without outputs."""

import os
import re
from collections.abc import Callable
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE, OutputChecker
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from nbconvert.exporters import HTMLExporter
from nbconvert.preprocessors import ExecutePreprocessor

from tests.canon.test_markup import Seen
from tests.notebooks.shown import SHOWN

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
BLOCK = "from llmbridge.pytest_plugin.blocking import Blocker; Blocker(print)"
"""What the kernel runs before the first cell: no connection of it leaves this machine."""


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.fixture
def execute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Any]:
    """Run a notebook as `nbconvert --execute` does, in a kernel of this Python, in an empty folder, without anybody's keys or settings."""
    for name in [name for name in os.environ if name.endswith(("_API_KEY", "_BASE_URL"))]:
        monkeypatch.delenv(name)
    for name in (
        "IPYTHONDIR",
        "JUPYTER_DATA_DIR",
        "JUPYTER_RUNTIME_DIR",
        "JUPYTER_CONFIG_DIR",
        "MPLCONFIGDIR",
    ):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    folder = tmp_path / "here"
    folder.mkdir()

    def run(notebook: Any) -> Any:
        # Where the state of widgets is kept, a page without scripts shows none of them.
        step = ExecutePreprocessor(
            timeout=150,
            store_widget_state=False,
            extra_arguments=[f"--IPKernelApp.exec_lines={BLOCK}"],
        )
        executed, _ = step.preprocess(notebook, {"metadata": {"path": folder}})
        return executed

    return run


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_without_a_key_and_shows_what_it_promises(path: Path, execute):
    executed = execute(read(path))

    wanted = SHOWN[path.stem]
    cells = {cell.id: shown(cell) for cell in code(executed)}
    differing = {
        name: cells[name] for name, text in wanted.items() if not _matches(text, cells[name])
    }
    assert differing == {}
    assert left_out_of_html(executed) == []


def left_out_of_html(notebook: Any) -> list[str]:
    """The rich outputs that a page without scripts does not show."""
    page, _ = HTMLExporter().from_notebook_node(notebook)
    outputs = [output for cell in code(notebook) for output in cell.outputs]
    rich = [output.data for output in outputs if "data" in output and len(output.data) > 1]
    assert all("text/plain" in data and {"text/html", "image/png"} & set(data) for data in rich)
    told = _letters(page)
    return [html for data in rich if _letters(html := data.get("text/html", "")) not in told]


def _letters(html: str) -> str:
    return "".join(Seen(html).text.split())


def shown(cell: Any) -> str:
    """What stands below a cell as text; after a rich output, the kinds it comes in."""
    lines = []
    for output in cell.outputs:
        assert output.get("name") != "stderr", output.text
        if output.output_type == "stream":
            lines.append(output.text)
        else:
            kinds = sorted(kind for kind in output.data if kind != "text/plain")
            lines.append(f"{output.data['text/plain']}\n{' '.join(kinds)}\n")
    return "".join(lines)


def _matches(wanted: str, got: str) -> bool:
    return OutputChecker().check_output(
        wanted.strip(), got.strip(), ELLIPSIS | NORMALIZE_WHITESPACE
    )


def test_every_notebook_is_one_whose_outputs_are_known():
    assert [path.stem for path in NOTEBOOKS] == sorted(SHOWN)


def test_the_page_on_notebooks_lists_every_notebook():
    page = (ROOT / "docs" / "how-to" / "notebook.md").read_text("utf-8")

    assert re.findall(r"^\| `notebooks/(.+)\.ipynb`", page, re.MULTILINE) == list(SHOWN)


def test_a_kernel_reaches_nothing_beyond_this_machine(execute):
    cell = nbformat.v4.new_code_cell(
        "import socket; socket.create_connection(('192.0.2.1', 443), timeout=1)"
    )

    with pytest.raises(CellExecutionError, match="NetworkBlocked"):
        execute(nbformat.v4.new_notebook(cells=[cell]))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path: Path):
    notebook = read(path)

    left = [(cell.id, cell.outputs, cell.execution_count) for cell in code(notebook)]
    assert left == [(cell.id, [], None) for cell in code(notebook)]
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert all(not cell.metadata for cell in notebook.cells)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_valid_and_short(path: Path):
    notebook = read(path)

    nbformat.validate(notebook)
    assert len(code(notebook)) <= 8
