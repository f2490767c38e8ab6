"""Token counts as OpenAI and its look-alikes report them.

Source: the usage objects of Chat Completions, Responses and compatible hosts. OpenAI counts cached tokens inside the
input and reasoning inside the output; some hosts count them outside, which only the total tells.
"""

from typing import Any, Literal

from llmbridge.canon.messages import Usage
from llmbridge.wire.loose_json import count, is_object


def decode_usage(
    raw: dict[str, Any],
    input_name: Literal["prompt", "input"],
    output_name: Literal["completion", "output"],
) -> Usage:
    """Usage in canon's terms from a usage object whose keys start with these names."""
    prompt = _count(raw, f"{input_name}_tokens")
    completion = _count(raw, f"{output_name}_tokens")
    total = _count(raw, "total_tokens")
    read = _detail(raw, f"{input_name}_tokens_details", "cached_tokens")
    if read is None:
        read = next((n for k in _CACHED if (n := _count(raw, k)) is not None), None)
    write = _detail(raw, f"{input_name}_tokens_details", "cache_write_tokens")
    if write is None:
        write = _count(raw, "cache_creation_input_tokens")
    reasoning = _detail(raw, f"{output_name}_tokens_details", "reasoning_tokens")
    if reasoning is None:
        reasoning = _count(raw, "reasoning_tokens")
    known = (prompt or 0) + (completion or 0)
    if completion is not None and reasoning and _outside(total, known, reasoning):
        completion += reasoning
    cached = (read or 0) + (write or 0)
    if prompt is not None and cached <= prompt and not _outside(total, known, cached):
        prompt -= cached
    return Usage(prompt, read, write, completion, reasoning, total, raw)


_CACHED = ("cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens")


def _outside(total: int | None, known: int, part: int) -> bool:
    """True when the total shows that `part` was not counted yet."""
    return bool(part) and total is not None and total == known + part


def _count(raw: dict[str, Any], key: str) -> int | None:
    return count(raw.get(key))


def _detail(raw: dict[str, Any], group: str, key: str) -> int | None:
    details = raw.get(group)
    return _count(details, key) if is_object(details) else None
