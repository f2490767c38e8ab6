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
_INDENT = re.compile(r"^\s+", re.MULTILINE)
_COMMENT = re.compile(r"^(?://(?: .*)?|/\*\* .*)\n", re.MULTILINE)

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
    """One of the files beside this one without comments and indents: every widget carries it along."""
    text = (_HERE / name).read_text("utf-8")
    return _COMMENT.sub("", _INDENT.sub("", text))


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
