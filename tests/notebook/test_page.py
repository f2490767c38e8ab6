"""An inspector as a file, as a parser finds it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from llmbridge import Bridge, Context, Model, Script
from llmbridge.notebook.page import packed
from llmbridge.notebook.widgets import play
from tests.canon.test_markup import Seen
from tests.notebook.test_reprs import exchange, texts
from tests.samples import record

OURS = {"html", "head", "meta", "title", "style", "body", "noscript", "textarea", "script"}
STATIC = {"div", "p", "strong", "em", "small", "pre"}


@pytest.mark.parametrize("hostile", texts())
def test_hostile_text_is_data_in_the_file(hostile: str) -> None:
    html = play([exchange(hostile)]).to_html()

    seen = Seen(html)

    assert {tag for tag, _ in seen.tags} <= OURS | STATIC
    assert [tag for tag, _ in seen.tags].count("script") == 1


def test_white_space_goes_where_it_says_nothing() -> None:
    script, style = packed("live.js"), packed("live.css")

    assert 'if(key===" "&&' in script
    assert "` … ${whole(more)} more characters`" in script
    assert "parts.push(`-H ${quoted(`${name}: ${value}`)}`);" in script
    assert re.findall(r"//(?!www)", script) == []
    assert ".llmb :focus-visible{outline:2px solid var(--llmb-accent);" in style
    assert 'content:"None fits the filter.";' in style


def test_the_file_may_run_its_own_script_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "stream.html"
    shown = play([record("openai.chat", "text.sse")])

    shown.to_html(path)

    html = shown.to_html()
    policy: Any = next(
        dict(attrs)["content"]
        for tag, attrs in Seen(html).tags
        if tag == "meta" and len(attrs) == 2
    )
    assert policy.startswith(
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-"
    )
    assert path.read_text("utf-8") == html


def test_a_live_inspector_is_written_as_it_stands() -> None:
    with Bridge(Script("One", "Two"), environ={}) as bridge:
        for _ in "12":
            list(bridge.stream_sync(Model("openai", "gpt-5-mini"), Context()))
        shown = bridge.live()
        bridge.close()

        html = shown.to_html()

    recording = Seen(
        html.partition("<textarea")[2].partition("</textarea>")[0].partition(">")[2]
    ).text
    said = [
        "".join(step[2] for row in each["rows"] for step in row[4] if step[0] == "d")
        for each in json.loads(recording)
    ]
    assert said == ["One", "Two"]
