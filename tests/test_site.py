"""The site that `make docs` builds: no warning, nothing of another host, and what a model said is text."""

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.canon.test_markup import Seen
from tests.notebook.test_reprs import texts

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.skipif(
    find_spec("zensical") is None, reason="needs zensical: pip install -e '.[docs]'"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site with one more page, on which a model is quoted as the other pages quote what code prints."""
    project = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "docs", project / "docs")
    shutil.copy(ROOT / "zensical.toml", project)
    quoted = "\n\n".join(f"```text\n{text}\n```" for text in texts())
    (project / "docs" / "quoted.md").write_text(f"# Quoted\n\n{quoted}\n", "utf-8")
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    built = subprocess.run(command, cwd=project, capture_output=True, encoding="utf-8", check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return project / "site"


def test_pages_load_nothing_from_another_host(site: Path) -> None:
    pages = [Seen(page.read_text("utf-8")) for page in site.rglob("*.html")]

    assert len(pages) > len(list((ROOT / "docs").rglob("*.md")))
    loaded = [
        value or ""
        for page in pages
        for tag, pairs in page.tags
        for name, value in pairs
        if name == "src" or (tag == "link" and name == "href")
    ]
    assert [url for url in loaded if "//" in url] == []


def test_what_a_model_said_is_text_on_a_page(site: Path) -> None:
    plain = Seen((site / "quickstart" / "index.html").read_text("utf-8"))
    quoted = Seen((site / "quoted" / "index.html").read_text("utf-8"))

    assert [text for text in texts() if text not in quoted.text] == []
    assert {tag for tag, _ in quoted.tags} <= {tag for tag, _ in plain.tags}
    assert [pair for _, pairs in quoted.tags for pair in pairs if pair[0].startswith("on")] == []
