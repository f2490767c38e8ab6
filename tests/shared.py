"""The corpus and vectors that lie beside the checkout, too large or too foreign to live in it."""

from pathlib import Path

import pytest

_BESIDE = Path(__file__).resolve().parents[2] / "shared"

SHARED: Path | None = _BESIDE if _BESIDE.is_dir() else None
NO_SHARED = f"needs the recorded traffic and vectors: put the folder at {_BESIDE}"
needs_shared = pytest.mark.skipif(SHARED is None, reason=NO_SHARED)
