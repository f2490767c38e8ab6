"""`llmbridge export`: what a bridge kept, as Parquet files."""

from llmbridge.cli.screen import FINE, Screen, say_json
from llmbridge.frames.dataset import export


def run_export(store: str, to: str, force: bool, as_json: bool) -> int:
    """Write the frames and say how many rows they have; the exit code.

    Raises:
        ConfigurationError: there is no such store, or the folder is not empty or cannot be written.
        CassetteError: a recording cannot be read.
    """
    rows = export(store, to, force=force)
    if as_json:
        say_json({"to": to, "rows": rows})
    else:
        lines = [[name, f"{number:,}"] for name, number in rows.items()]
        Screen().table({"frame": False, "rows": True}, lines)
    return FINE
