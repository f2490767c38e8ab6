"""One page of JupyterLab and the notebook open in it."""

from typing import TYPE_CHECKING, Any

import nbformat

from tests.browser.chromium import Watched
from tests.browser.jupyter import Lab

if TYPE_CHECKING:
    from playwright.sync_api import Page

WAIT_MS = 120_000
"""How long a cell or a stream of seconds may take on a machine that is busy with other tests."""

# A run before the session is ready asks for a kernel and hangs.
_OPEN = """async ([path, id]) => {
  const app = window.jupyterapp;
  await app.restored;
  const kernel = id ? {id} : undefined;
  const panel = await app.commands.execute('docmanager:open', {path, factory: 'Notebook', kernel});
  await panel.context.ready;
  await panel.sessionContext.ready;
  await panel.revealed;
  app.shell.collapseLeft();
  window.panel = panel;
  return panel.sessionContext.session.kernel.id;
}"""
_CLOSE = """async (code) => {
  if (!window.panel) return;
  const {kernel} = window.panel.sessionContext.session;
  await kernel.requestExecute({code, silent: true}).done;
  // What JupyterLab asks for the sake of widgets comes before this; it takes it ill when no answer comes.
  await kernel.requestListSubshell({}).done;
  window.panel.dispose();
  window.panel = null;
}"""
# A kernel and its imports take seconds.
_FORGET = "import ipywidgets; ipywidgets.Widget.close_all(); get_ipython().reset()"
# The promise is kept here: a page that waits for it cannot be asked anything else.
_RUN = """(only) => {
  const {content, sessionContext} = window.panel;
  const cells = content.widgets.filter((cell, place) => only === null || place === only);
  content.activeCellIndex = only ?? 0;
  content.deselectAll();
  const command = only === null ? 'notebook:run-all-cells' : 'notebook:run-cell';
  window.running = true;
  window.jupyterapp.commands.execute(command).finally(() => { window.running = false; });
}"""


class Desk:
    """A page of JupyterLab. `page` is Playwright's."""

    def __init__(self, lab: Lab, watched: Watched) -> None:
        self._lab = lab
        self._kernel: str | None = None
        self.page: Page = watched.page()
        self.reload()

    def reload(self) -> None:
        """The page anew, with nothing open in it."""
        self.page.goto(f"{self._lab.url}/lab?token={self._lab.token}&reset")
        self.page.wait_for_function("window.jupyterapp !== undefined")

    def write(self, name: str, *cells: str) -> str:
        """A notebook of these cells, in the folder that the server shows; its name."""
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        )
        nbformat.write(notebook, self._lab.folder / f"{name}.ipynb")
        return f"{name}.ipynb"

    def open(self, path: str) -> None:
        """Show a notebook in place of the one before, with the kernel of that one, which has forgotten it."""
        self.close()
        self._kernel = self.page.evaluate(_OPEN, [path, self._kernel])

    def start(self, only: int | None = None) -> None:
        """Run all cells, or one, and do not wait for them."""
        self.page.evaluate(_RUN, only)

    def run(self, only: int | None = None) -> None:
        """Run all cells, or one, to the end."""
        self.start(only)
        self.wait()

    def wait(self) -> None:
        """Return when what was started has run."""
        self.page.wait_for_function("!window.running", timeout=WAIT_MS)
        outputs = [each for cell in self.kept()["cells"] for each in cell.get("outputs", ())]
        failed = [each for each in outputs if each["output_type"] == "error"]
        assert not failed, failed[0]["evalue"]

    def theme(self, name: str) -> None:
        """Change the theme: "Light" or "Dark"."""
        self.page.evaluate(
            "name => window.jupyterapp.commands.execute('apputils:change-theme', {theme: name})",
            f"JupyterLab {name}",
        )
        self.page.wait_for_function(
            "light => document.body.dataset.jpThemeLight === light",
            arg=str(name == "Light").lower(),
        )
        self.page.wait_for_selector("#jupyterlab-splash", state="detached")

    def save(self) -> None:
        """Keep the notebook in its file."""
        self.page.evaluate("() => window.panel.context.save()")

    def kept(self) -> Any:
        """The notebook as the page holds it, outputs and all."""
        return self.page.evaluate("() => window.panel.content.model.toJSON()")

    def printed(self, cell: int) -> str:
        """What a cell printed."""
        texts = [each.get("text", "") for each in self.kept()["cells"][cell]["outputs"]]
        return "".join(text if isinstance(text, str) else "".join(text) for text in texts)

    def close(self) -> None:
        """Close the notebook."""
        self.page.evaluate(_CLOSE, _FORGET)
