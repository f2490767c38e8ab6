"""An inspector as one file for any browser: no kernel, no network, and no script but its own."""

import re
from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha256
from html import escape
from pathlib import Path

from llmbridge.notebook.static import static_html
from llmbridge.notebook.trace import Trace, to_json

_HERE = Path(__file__).parent
_COMMENT = re.compile(r"^ *(?://(?: .*)?|/\*\* .*)\n| +// [^\"`\n]*$", re.MULTILINE)
_STRING = re.compile(r"""("(?:\\.|[^"\\])*"|`[^`]*`)""")
_SPACES = {
    ".js": re.compile(r" ?(=>|[=!]==?|[-+]=|&&|\|\||[=?:,;{}()<>*|[\]]) ?|(?<=\w) ([-+]) (?=\w)"),
    ".css": re.compile(r" ?([{};,>]) ?|(?<=:)() "),
}

# What anywidget would give the script; nobody hears what it sends.
_BOOT = """
const state = { mode: "page", keyframe: "[]", recording: document.getElementById("recording").value };
const model = { get: (name) => state[name], on() {}, off() {}, send() {} };
inspector().render({ model, el: document.body });
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width">
<title>llmbridge</title>
<style>:root {{ color-scheme: light dark; }} body {{ margin: 12px; }}
{style}</style>
</head>
<body>
<noscript>{static}</noscript>
<textarea id="recording" hidden>{recording}</textarea>
<script type="module">{script}</script>
</body>
</html>
"""


def packed(name: str) -> str:
    """One of the files beside this one without comments and most white space: every widget carries it along."""
    spaces = _SPACES[Path(name).suffix]
    lines = _COMMENT.sub("", (_HERE / name).read_text("utf-8")).splitlines()
    return "".join(_packed(line.strip(), spaces) for line in lines)


def _packed(line: str, spaces: re.Pattern[str]) -> str:
    """A line and what ends it; one with a string inside a string or a slash outside stays as it is."""
    parts = _STRING.split(line)
    code = "".join(parts[::2])
    if any(mark in code for mark in ("`", "${", "/")):
        return f"{line}\n"
    parts[::2] = [spaces.sub(r"\1\2", part) for part in parts[::2]]
    open_ended = not line or line.endswith(("{", "(", "[", ",", ";"))
    return "".join(parts) + "\n" * (not open_ended)


def page_html(traces: Iterable[Trace], script: str, style: str) -> str:
    """These, the last one first, to be stepped through; all that a model wrote is text in it."""
    every = {trace.id: trace for trace in traces}
    module = script + _BOOT
    digest = b64encode(sha256(module.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return _PAGE.format(
        policy=policy,
        style=style,
        static=static_html(every),
        recording=escape(to_json([trace.whole() for trace in every.values()])),
        script=module,
    )
