"""Hold what we write to vcrpy and pytest-recording of an environment of their own: python -m tests.compat PYTHON..."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from llmbridge.exchange.call import Headers
from llmbridge.exchange.record import Record
from llmbridge.stores.cassette import Cassette
from llmbridge.stores.cassette_path import cassette_path
from tests.compat.replaying import ASKED, URL
from tests.stores.recordings import STREAMED

CHECKS = Path(__file__).with_name("replaying.py")


def main(pythons: list[str]) -> int:
    return max(map(check, pythons), default=2)


def check(python: str) -> int:
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        recorded = write(folder)
        # Not resolved: that would leave the environment.
        command = [
            str(Path(python).absolute()),
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "--record-mode=none",
        ]
        done = subprocess.run([*command, "test_replaying.py"], cwd=folder, check=False)
        if done.returncode:
            return done.returncode
        *again, fresh = Cassette.load(folder / "saved_again.yaml")
    if [replace(record, interception_id="") for record in again] != recorded or fresh.timed:
        sys.stderr.write(f"what vcrpy of {python} saved again is not what we wrote\n")
        return 1
    return 0


def write(folder: Path) -> list[Record]:
    """Put the checks there with the cassettes they need."""
    shutil.copy(CHECKS, folder / "test_replaying.py")
    records = [
        replace(
            STREAMED,
            interception_id="",
            request=replace(STREAMED.request, url=URL, body=body),
            headers=Headers({"content-type": "text/event-stream", "x-body": body.hex()}),
            chunks=chunks,
        )
        for body, chunks in zip(ASKED, (STREAMED.chunks, ((0.5, b"\x00\xff"),)), strict=True)
        if STREAMED.request
    ]
    by_test = "test_replaying/test_pytest_recording_replays_our_file"
    for path in (cassette_path(folder / "cassettes", by_test), folder / "saved_again.yaml"):
        Cassette(path, records).save()
    Cassette(folder / "plain.yaml", records).save()
    Cassette(folder / "plain.json", records[:1]).save()
    return records


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
