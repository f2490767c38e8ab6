"""llmbridge as `llmbridge serve` runs it, in a process of its own that ends with its standard input.

python -m tests.bench.served relay http://127.0.0.1:PORT
python -m tests.bench.served replay CASSETTE
python -m tests.bench.served pace CASSETTE
python -m tests.bench.served record CASSETTE http://127.0.0.1:PORT
"""

import os
import signal
import sys
from threading import Thread

from llmbridge.cli import app


def options(kind: str, source: str, provider: str = "") -> list[str]:
    if kind == "replay":
        return ["--replay", source]
    if kind == "pace":
        return ["--replay", source, "--speed", "1"]
    if kind == "record":
        return ["--record", source, "--upstream", f"openai={provider}"]
    return [f"--upstream={name}={source}" for name in ("anthropic", "openai")]


def end_with_input() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    Thread(target=end_with_input, daemon=True).start()
    app(["serve", *options(*sys.argv[1:]), "--port=0", "--no-token", "--log=warning"])


if __name__ == "__main__":
    main()
