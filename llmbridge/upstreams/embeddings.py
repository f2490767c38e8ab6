"""Made-up embeddings: equal texts have equal vectors, others point elsewhere.

Source: OpenAI API reference, "Create embeddings".
"""

import hashlib
import math
from array import array
from base64 import b64encode
from typing import Any

from llmbridge.canon.messages import JsonObject
from llmbridge.wire.error_bodies import dump
from llmbridge.wire.loose_json import is_list

_DIMENSIONS = 256


def embed(body: JsonObject) -> bytes:
    """The answer to an embeddings request: one unit vector for each input, tokens counted in words."""
    inputs = _inputs(body.get("input"))
    wanted = body.get("dimensions")
    length = wanted if isinstance(wanted, int) and wanted > 0 else _DIMENSIONS
    vectors = [unit_vector(text, length) for text in inputs]
    packed = body.get("encoding_format") == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": _packed(each) if packed else each}
        for index, each in enumerate(vectors)
    ]
    words = sum(len(text.split()) for text in inputs)
    usage = {"prompt_tokens": words, "total_tokens": words}
    return dump({"object": "list", "data": data, "model": body.get("model"), "usage": usage})


def unit_vector(text: str, length: int) -> list[float]:
    """The text's own direction, as a vector of length one."""
    seed = hashlib.shake_256(text.encode("utf-8", "surrogatepass")).digest(4 * length)
    raw = [value / 2**31 - 1 for value in array("I", seed)]
    size = math.hypot(*raw)
    return [value / size for value in raw]


def _inputs(given: Any) -> list[str]:
    """The texts; tokens, which some clients send, stand for themselves."""
    if not is_list(given):
        return [str(given)]
    if given and all(isinstance(token, int) for token in given):
        return [str(given)]
    return [str(each) for each in given]


def _packed(vector: list[float]) -> str:
    return b64encode(array("f", vector).tobytes()).decode()
