"""A JupyterLab server on a free port, with a token, and no settings but its own."""

import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import IO

ROOT = Path(__file__).resolve().parents[2]
BLOCK = "from llmbridge.pytest_plugin.blocking import Blocker; Blocker(print)"
"""What each kernel runs first: no connection of it leaves this machine."""

_READY = re.compile(r"http://127\.0\.0\.1:\d+/")
STOP_S = 15


@dataclass(frozen=True, slots=True)
class Lab:
    """A server that runs: where, with which token, and the folder that it shows."""

    url: str
    token: str
    folder: Path
    log: list[str]


@contextmanager
def jupyterlab(home: Path) -> Iterator[Lab]:
    """JupyterLab with everything of its own in `home`, stopped with its kernels at the end of the block."""
    folder, token = home / "notebooks", secrets.token_hex(16)
    folder.mkdir(parents=True)
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1"),
        *("--ServerApp.port=0", f"--ServerApp.root_dir={folder}"),
        *(f"--IdentityProvider.token={token}", "--LabApp.expose_app_in_browser=True"),
        *("--LabApp.extension_manager=readonly", "--LabApp.news_url="),
    ]
    log: list[str] = []
    with subprocess.Popen(
        command,
        cwd=folder,
        env=_environment(home),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        encoding="utf-8",
    ) as server:
        assert server.stderr is not None
        try:
            url = _ready(server.stderr, log)
            rest = Thread(target=log.extend, args=(server.stderr,), daemon=True)
            rest.start()
            yield Lab(url, token, folder, log)
            server.terminate()
            server.wait(STOP_S)
            rest.join()
        finally:
            server.kill()


def _ready(lines: IO[str], log: list[str]) -> str:
    for line in lines:
        log.append(line)
        if found := _READY.search(line):
            return found[0].rstrip("/")
    raise RuntimeError(f"JupyterLab did not start: {''.join(log)}")


def _environment(home: Path) -> dict[str, str]:
    """Nobody's keys and settings, no news, no kernel that reaches the network."""
    config, ipython = home / "config", home / "ipython"
    overrides = {
        "@jupyterlab/apputils-extension:notification": {
            "fetchNews": "false",
            "checkForUpdates": False,
            "doNotDisturbMode": True,
        },
        "@jupyterlab/docmanager-extension:plugin": {"autosave": False},
        "@jupyterlab/notebook-extension:tracker": {
            "windowingMode": "none",
            "maxNumberOutputs": 500,
        },
    }
    _write(config / "labconfig" / "default_setting_overrides.json", json.dumps(overrides))
    _write(
        ipython / "profile_default" / "ipython_kernel_config.py",
        f"c.IPKernelApp.exec_lines = [{BLOCK!r}]\nc.HistoryManager.enabled = False\n",
    )
    kept = {name: value for name, value in os.environ.items() if not _private(name)}
    return kept | {
        "JUPYTER_CONFIG_DIR": str(config),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(ipython),
        "MPLCONFIGDIR": str(home / "matplotlib"),
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "default",
    }


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def _private(name: str) -> bool:
    return name.startswith("JUPYTER") or name.endswith(("_API_KEY", "_BASE_URL"))
