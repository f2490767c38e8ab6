"""llmbridge as a user would serve it, in a process of its own.

python -m tests.bench.served relay http://127.0.0.1:PORT
python -m tests.bench.served replay CASSETTE
python -m tests.bench.served pace CASSETTE
python -m tests.bench.served record CASSETTE http://127.0.0.1:PORT
"""

import sys
from urllib.parse import urlsplit

from llmbridge import Bridge, Live, Replay


def bridge_of(kind: str, source: str, provider: str = "") -> Bridge:
    if kind == "replay":
        return Bridge(Replay(source, speed=0, strict=False))
    if kind == "pace":
        return Bridge(Replay(source, speed=1, strict=False))
    if kind == "record":
        return Bridge(Replay(source, mode="all", upstream=Live()), base_urls={"openai": provider})
    return Bridge(base_urls={"anthropic": source, "openai": source})


def main() -> None:
    with bridge_of(*sys.argv[1:]).serve(port=0, token=None) as server:
        sys.stdout.write(f"{urlsplit(server.url).port}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
