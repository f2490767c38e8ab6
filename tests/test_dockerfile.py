"""What the Dockerfile says, held to the program; an image is not built here."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command

from llmbridge import Bridge, Script
from llmbridge.cli import app

ROOT = Path(__file__).parents[1]
DOCKERFILE = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())


def said(instruction: str) -> list[str]:
    return re.findall(rf"^{instruction} (.*)$", DOCKERFILE, re.MULTILINE)


def test_what_it_copies_is_there_and_let_through():
    copied = {
        name.removeprefix("./")
        for line in said("COPY")
        if not line.startswith("--")
        for name in line.split()[:-1]
    }
    ignored = (ROOT / ".dockerignore").read_text().split()

    assert copied == {name.removeprefix("!") for name in ignored if name.startswith("!")}
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_what_it_installs_are_extras():
    (extras,) = re.findall(r"\.\[(.*?)\]", DOCKERFILE)
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert set(extras.split(",")) <= set(known["optional-dependencies"])


def test_its_command_is_one_and_no_user_of_rights_runs_it():
    (entry,), (command,) = said("ENTRYPOINT"), said("CMD")

    context = get_command(app).make_context(
        "llmbridge", json.loads(command), resilient_parsing=True
    )

    serve = get_command(app).commands["serve"]  # type: ignore[attr-defined]  # a group
    options = serve.make_context("serve", json.loads(command)[1:]).params
    assert (json.loads(entry), context.info_name) == (["llmbridge"], "llmbridge")
    assert (options["host"], options["port"], options["allow_remote"]) == ("0.0.0.0", 8080, True)
    assert options["store"] == f"sqlite:///{said('VOLUME')[0]}/usage.db"
    assert said("EXPOSE") == [str(options["port"])]
    assert said("USER") == ["llmbridge"]


@pytest.mark.parametrize("healthy", [True, False])
def test_its_health_is_that_of_the_server(healthy):
    (check,) = re.findall(r"CMD (\[.*\])", said("HEALTHCHECK")[0])
    with Bridge(Script("Hi")) as bridge:
        server = bridge.serve()
        if not healthy:
            server.stop()
        command = json.loads(check.replace("127.0.0.1:8080", f"127.0.0.1:{server.port}"))

        ended = subprocess.run(
            [sys.executable, *command[1:]], capture_output=True, timeout=20, check=False
        )

    assert (command[0], ended.returncode == 0) == ("python", healthy)
