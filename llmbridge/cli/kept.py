"""Commands over what a bridge has kept: usage, export, prune."""

from typing import Annotated, Any

import typer

from llmbridge.cli.cassette import AsJson

_USAGE = """
Sum up calls, tokens and cost by model, actor, day, provider or client.

Reads the database, the recordings or the Parquet files that a bridge kept. Input is what no cache had;
days are of UTC; cost is the list price, without the calls whose price is not known.

\b
Examples:
  llmbridge usage --store sqlite:///usage.db
  llmbridge usage --store sqlite:///usage.db --by model,day --since 2026-11-01
  llmbridge usage --store sqlite:///usage.db --actor alice --model 'claude-*'
  llmbridge usage --store 'recordings/*.yaml' --json | jq .total.cost_usd
"""

_EXPORT = """
Write what a bridge kept as Parquet files that pandas, Dask, DuckDB or Spark read.

There is a folder for each frame, and in it one for each day on which calls began (UTC). Prompts and
answers are in it: a folder that is made here is for its owner alone. What is interrupted changes nothing.

\b
Examples:
  llmbridge export --store sqlite:///usage.db --to usage/
  llmbridge export --store sqlite:///usage.db --to usage/ --force --since 2026-11-20
      write the days from that one on, in place of those that are there
"""

_PRUNE = """
Delete calls from a database that are older than some days, with all that was asked and answered.

Days go whole (UTC), and calls under way stay. A bridge may be at work meanwhile. Deleted bytes are
overwritten; the file does not get smaller, but what comes next uses the room.

\b
Examples:
  llmbridge prune --store sqlite:///usage.db --older-than 30d --dry-run
  llmbridge prune --store sqlite:///usage.db --older-than 30d
"""

_KEPT = (
    "What a bridge kept: the URL of a database such as sqlite:///usage.db, or a cassette, a folder or"
    " a glob of them"
)


def add_to(app: typer.Typer) -> None:
    """Make these commands of the program."""
    app.command(help=_USAGE, short_help="Sum up calls, tokens and cost.")(usage)
    app.command(help=_EXPORT, short_help="Write what was kept as Parquet files.")(export)
    app.command(help=_PRUNE, short_help="Delete old calls from a database.")(prune)


def _only(metavar: str, about: str) -> Any:
    return typer.Option(metavar=metavar, help=f"Only calls {about}.", show_default="all")


def usage(
    store: Annotated[
        str, typer.Option(metavar="URL", help=f"{_KEPT}, or the folder of an export.")
    ],
    by: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="One line for each: model, actor, day, provider, client, or several.",
        ),
    ] = "model",
    since: Annotated[
        str | None,
        _only("TIME", "that began then or later, such as 2026-11-20 or 2026-11-20T08:00; UTC"),
    ] = None,
    until: Annotated[str | None, _only("TIME", "that began before that")] = None,
    model: Annotated[
        str | None, _only("NAME", "of this model, asked for or answering, or of a pattern")
    ] = None,
    actor: Annotated[str | None, _only("NAME", "of this actor")] = None,
    provider: Annotated[str | None, _only("NAME", "that this provider was asked")] = None,
    as_json: AsJson = False,
) -> None:
    """Sum up what calls took."""
    from llmbridge.cli.usage import run_usage
    from llmbridge.frames.source import Filters

    given: dict[str, Any] = {
        "since": since,
        "until": until,
        "model": model,
        "actor": actor,
        "provider": provider,
    }
    filters: Filters = {}
    filters.update({name: value for name, value in given.items() if value is not None})  # type: ignore[typeddict-item]  # names of filters
    raise typer.Exit(run_usage(store, by, filters, as_json))


def export(
    store: Annotated[str, typer.Option(metavar="URL", help=f"{_KEPT}.")],
    to: Annotated[
        str, typer.Option(metavar="DIR", help="The folder to write to: a new one, or empty.")
    ],
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Write to a folder that has days already; replace the same ones."
        ),
    ] = False,
    since: Annotated[
        str | None, _only("TIME", "from the day on that this is in, such as 2026-11-20; UTC")
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(
            metavar="FRAMES",
            help="Only these, such as interceptions,token_usage; events take the longest.",
            show_default="all",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write Parquet files."""
    from llmbridge.cli.exporting import run_export

    raise typer.Exit(run_export(store, to, force, as_json, since, only))


def prune(
    store: Annotated[
        str,
        typer.Option(metavar="URL", help="The URL of a database, such as sqlite:///usage.db."),
    ],
    older_than: Annotated[
        str,
        typer.Option(
            metavar="DAYS", help="Such as 30d: delete what began before the day 30 days ago."
        ),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say how many it would be; delete nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Delete old calls."""
    from llmbridge.cli.pruning import run_prune

    raise typer.Exit(run_prune(store, older_than, dry_run, as_json))
