"""The example in `docs/examples/agent` is tested as its README says: without a key, and with the network blocked."""

import os
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[1] / "docs" / "examples" / "agent"


def test_the_agents_tests_pass_without_a_key_and_without_a_network():
    arguments = ["--llm-record=none", "--llm-block-network", "-q", "-p", "no:cacheprovider"]
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith("ANTHROPIC")
    }

    done = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments, "-p", "no:asyncio"],
        cwd=EXAMPLE,
        env=environ,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )

    assert done.returncode == 0, done.stdout
    assert "llmbridge: 7 played, 9 scripted, " in done.stdout
