"""Packages that tests fetch once, beside the tree: all of a package is there, or nothing is."""

import shutil
import subprocess
from pathlib import Path
from tempfile import mkdtemp

import pytest

KEPT = Path(__file__).parents[2] / ".bench"
LIMIT_S = 50
"""Below what a test may take: a slow network is a reason to skip, not to fail."""

_REGISTRY = "needs a package registry, once: run this where pip and npm reach theirs"


def fetched(name: str, *install: str) -> Path:
    """The folder of this name, which the command fills the first time; its last word is where to."""
    home = KEPT / name
    if home.exists():
        return home
    KEPT.mkdir(exist_ok=True)
    made = Path(mkdtemp(dir=KEPT, prefix=f"{name}."))
    try:
        done = subprocess.run(
            [*install, str(made)], capture_output=True, timeout=LIMIT_S, check=False
        )
        if done.returncode:
            pytest.skip(f"{name} {_REGISTRY}: {done.stderr.decode()[-200:]}")
        if not home.exists():
            made.rename(home)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{name} {_REGISTRY}: it took over {LIMIT_S} s")
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return home
