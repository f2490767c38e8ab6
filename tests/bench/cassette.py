"""What it costs to open a recording: a cassette of 10 MB."""

import json
import tempfile
from functools import partial
from pathlib import Path

import yaml

from llmbridge import Cassette
from tests.bench.sessions import chat_exchange, write_cassette
from tests.bench.table import Plan, Table
from tests.bench.timing import Work, cpu_s

SIZE_BYTES = 10_000_000
DELTAS = 200


def cassette(plan: Plan) -> Table:
    """A vcrpy file of 10 MB, many streamed replies: load it, and understand every reply."""
    one = len(json.dumps(chat_exchange(0, DELTAS).as_vcr()))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "session.yaml"
        write_cassette(path, (chat_exchange(i, DELTAS) for i in range(SIZE_BYTES // one)))
        ways: dict[str, Work] = {
            "libyaml": partial(read_yaml, path),
            "llmbridge": partial(Cassette.load, path),
            "llmbridge, each message read": partial(read_messages, path),
        }
        figures = {name: {"CPU ms": 1e3 * cost} for name, cost in cpu_s(ways, plan).items()}
        size = path.stat().st_size
    title = f"Cassette of {size / 1e6:.0f} MB"
    return Table(title, figures, baseline="libyaml")


def read_yaml(path: Path) -> object:
    return yaml.load(path.read_bytes(), yaml.CSafeLoader)


def read_messages(path: Path) -> None:
    for record in Cassette.load(path):
        if record.message is None:
            raise ValueError(f"a reply of {path} could not be read")
