"""The fake provider to beat: aimock, a package of npm, kept in `.bench/aimock`."""

import contextlib
import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.bench.programs import BUILD, HERE, SERVER_CORE, Program, running

PACKAGE, VERSION = "@copilotkit/aimock", "1.43.0"


class AimockMissing(Exception):
    """It cannot be had here; the message is one sentence."""


def aimock(
    package: Path, file: Path, texts: Mapping[str, str], chunk_size: int
) -> contextlib.AbstractContextManager[Program]:
    """A server that answers each model's name with its text, in pieces of `chunk_size` characters."""
    file.write_text(json.dumps({"chunk_size": chunk_size, "texts": texts}))
    command = ["node", str(HERE / "aimock.mjs"), str(package), str(file)]
    return running("aimock", command, SERVER_CORE)


def installed() -> Path:
    """The folder of the package, which npm fetches the first time.

    Raises:
        AimockMissing: it cannot be had here.
    """
    home = BUILD / "aimock"
    package = home / "node_modules" / PACKAGE
    missing = [name for name in ("node", "npm") if shutil.which(name) is None]
    if missing:
        raise AimockMissing(
            f"aimock needs {' and '.join(missing)}, not found here; its column is left out"
        )
    found = package / "package.json"
    if found.exists() and json.loads(found.read_bytes())["version"] == VERSION:
        return package
    home.mkdir(parents=True, exist_ok=True)
    command = ["npm", "install", "--prefix", str(home), "--no-audit", "--no-fund", "--silent"]
    try:
        subprocess.run([*command, f"{PACKAGE}@{VERSION}"], check=True, timeout=120)
    except (OSError, subprocess.SubprocessError) as problem:
        raise AimockMissing(
            f"npm cannot install {PACKAGE} {VERSION}; its column is left out"
        ) from problem
    return package
