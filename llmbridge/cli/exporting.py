"""`llmbridge export`: what a bridge kept, as Parquet files."""

from llmbridge.cli.screen import FINE, Screen, bar, say_json
from llmbridge.frames.dataset import export


def run_export(
    store: str,
    to: str,
    force: bool,
    as_json: bool,
    since: str | None = None,
    only: str | None = None,
) -> int:
    """Write the frames and say how many rows they have; the exit code.

    Raises:
        ConfigurationError: there is no such store, time or frame, or the folder is not empty or cannot be written.
        CassetteError: a recording cannot be read.
    """
    names = None if only is None else [name.strip() for name in only.split(",") if name.strip()]
    with bar("exporting") as progress:
        rows = export(store, to, force=force, since=since, only=names, progress=progress)
    if as_json:
        say_json({"to": to, "rows": rows})
    else:
        lines = [[name, f"{number:,}"] for name, number in rows.items()]
        Screen().table({"frame": False, "rows": True}, lines)
    return FINE
