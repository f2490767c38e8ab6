"""What credentials look like: those of providers, of hosts of code, and the bridge's own tokens."""

import re
from typing import NamedTuple


class Shape(NamedTuple):
    """What one kind of credential looks like."""

    rule: str
    pattern: re.Pattern[bytes]


def _shape(rule: str, pattern: bytes, marker: bytes = b"") -> Shape:
    """Such a word; with a marker, which is what it begins with, it is found fast."""
    # The `n` of an escaped line end is not a part of the word after it.
    begins = rb"(?:(?<![A-Za-z0-9_]%b)|(?<=\\[nrtbf]%b)|(?<=%%[0-9A-Fa-f]{2}%b))" % ((marker,) * 3)
    return Shape(rule, re.compile(b"(" + marker + begins + pattern + b")"))


SHAPES: tuple[tuple[re.Pattern[bytes], tuple[Shape, ...]], ...] = (
    (
        re.compile(rb"-(?:(?<=sk-)|(?<=xai-)|(?<=pplx-))"),
        (
            _shape("anthropic-key", rb"[\w-]{8,}", b"sk-ant-"),
            _shape("openrouter-key", rb"[\w-]{8,}", b"sk-or-"),
            _shape("openai-key", rb"(?:proj|svcacct|admin|None)-[\w-]{8,}", b"sk-"),
            _shape("openai-key", rb"(?=[A-Za-z]*\d)[A-Za-z0-9]{8,}", b"sk-"),
            _shape("langfuse-key", rb"[\da-f-]{36}", b"sk-lf-"),
            _shape("cerebras-key", rb"[A-Za-z0-9]{20,}", b"csk-"),
            _shape("xai-key", rb"[A-Za-z0-9]{20,}", b"xai-"),
            _shape("perplexity-key", rb"[A-Za-z0-9]{20,}", b"pplx-"),
        ),
    ),
    (
        re.compile(rb"_(?:(?<=gh[pousr]_)|(?<=github_pat_)|(?<=hf_)|(?<=gsk_)|(?<=llmb_))"),
        (
            _shape("llmbridge-token", rb"[\w-]{32,}", b"llmb_"),
            _shape("github-token", rb"gh[pousr]_[A-Za-z0-9]{8,}"),
            _shape("github-token", rb"\w{8,}", b"github_pat_"),
            _shape("huggingface-token", rb"[A-Za-z0-9]{20,}", b"hf_"),
            _shape("groq-key", rb"[A-Za-z0-9]{20,}", b"gsk_"),
        ),
    ),
    (re.compile(rb"AIza"), (_shape("google-key", rb"[\w-]{8,}", b"AIza"),)),
    (re.compile(rb"AKIA"), (_shape("aws-key", rb"[A-Z0-9]{12,}", b"AKIA"),)),
    (re.compile(rb"\.eyJ"), (_shape("jwt", rb"[\w-]{8,}\.eyJ[\w-]{8,}(?:\.[\w-]*)?", b"eyJ"),)),
    (
        re.compile(rb"earer "),
        (Shape("bearer", re.compile(rb"[Bb]earer ((?=[A-Za-z._~+/=-]*\d)[\w.~+/=-]{8,})")),),
    ),
    (
        re.compile(rb"PRIVATE KEY-----"),
        (
            Shape(
                "private-key",
                re.compile(rb"PRIVATE KEY-----((?:\\+[nr]|[A-Za-z0-9+/=\s]){16,})"),
            ),
        ),
    ),
)
"""What to look for first, since it is cheap, and the shapes that may then be there."""
