"""`llmbridge cassette`: what each of its commands takes and how it explains itself.

What a command does is imported when it runs, so that help is quick.
"""

from typing import Annotated, Literal

import typer

_ABOUT = """
Look into recordings, keep secrets out of them, bring them into one form.

PATH is a file, a folder, or a glob such as 'tests/**/*.yaml'. Interactions are numbered from 0.
All commands take --json. Exit codes: 0 fine, 1 secrets or differences were found, 2 bad input.

\b
Examples:
  llmbridge cassette show session.yaml         what was asked and answered
  llmbridge cassette lint tests/cassettes      secrets in recordings
"""

_LINT = """
Find secrets in recordings, and what a client may trip over.

Looks at URLs, headers and bodies by the rules that take secrets out of recordings, for the values of
environment variables whose names end in KEY, TOKEN, SECRET or PASSWORD, and at streams once their
pieces are joined. What stands in for a secret, such as REDACTED or test_key, is no finding. Shows
where each is, and at most a quarter of it. Warnings do not change the exit code.

\b
Examples:
  llmbridge cassette lint tests/cassettes
  llmbridge cassette lint 'tests/**/*.yaml' --ignore openai-organization
  llmbridge cassette lint --json session.yaml | jq '.findings[].place'
"""

_SCRUB = """
Take secrets out of recordings, in place, and keep everything else.

Replaces what lint finds by '<redacted:RULE>'. A file without secrets is not touched, so a second run
changes nothing. Files are replaced whole or not at all. Where a stated length has to change, a file
of vcrpy's is written anew in our form, which vcrpy reads.

\b
Examples:
  llmbridge cassette scrub --dry-run tests/cassettes
  llmbridge cassette scrub tests/cassettes
  llmbridge cassette scrub old/ --output clean/
"""

_SHOW = """
Show what was asked and answered: requests in short, answers decoded, tokens, money and time.

\b
Examples:
  llmbridge cassette show session.yaml
  llmbridge cassette show session.yaml --interaction 2      all of it, events with their times
  llmbridge cassette show --json cassettes/ | jq '.files[].interactions[].model'
"""

_CONVERT = """
Bring recordings of any recorder into our form, secrets taken out; vcrpy reads it, too.

Reads what vcrpy, pydantic-ai, cassetter, Ruby VCR, go-vcr and nock write, and bare event streams.
Nothing is overwritten without --force. Times are never made up unless --ttft or --tps asks for it.

\b
Examples:
  llmbridge cassette convert old/ --to cassettes/
  llmbridge cassette convert stream.sse --ttft 0.4 --tps 50
  llmbridge cassette convert cassettes/*.yaml --format json --to json/
"""

_DIFF = """
Tell what differs between two recordings, place by place.

Interactions belong together when a replay would take their requests for the same, whatever their
order; of the rest, those that are most alike. Compared are requests and decoded answers, not ids or
times; tokens, money and time are summed up at the end. Exit code 1 when anything differs.

\b
Examples:
  llmbridge cassette diff monday.yaml tuesday.yaml
  llmbridge cassette diff old/ new/ --json | jq '.pairs[].answer[].path'
"""

_STATS = """
Count what recordings hold, per file and in all: interactions, streams, models, tokens, money, time.

Times are the median and what 95 of 100 stay below. Under 'twice' are requests that were recorded
before.

\b
Examples:
  llmbridge cassette stats tests/cassettes
  llmbridge cassette stats --json session.yaml | jq .total
"""

Paths = Annotated[
    list[str], typer.Argument(metavar="PATH...", help="Files, folders, or globs of them.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]

app = typer.Typer(
    help=_ABOUT,
    short_help="Look into recordings, keep secrets out of them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command(help=_LINT, short_help="Find secrets in recordings.")
def lint(
    paths: Paths,
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A rule or a header whose findings do not count. Repeat it for more.",
            show_default="none",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find secrets."""
    from llmbridge.cli.linting import run_lint

    raise typer.Exit(run_lint(paths, ignore or (), as_json))


@app.command(help=_SCRUB, short_help="Take secrets out of recordings.")
def scrub(
    paths: Paths,
    output: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="Write the mended files there instead.", show_default="in place"
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be replaced; write nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Take secrets out."""
    from llmbridge.cli.scrubbing import run_scrub

    raise typer.Exit(run_scrub(paths, output, dry_run, as_json))


@app.command(help=_SHOW, short_help="Show what was asked and answered.")
def show(
    paths: Paths,
    interaction: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="Show the one of this number whole.",
            show_default="all, in short",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what was asked and answered."""
    from llmbridge.cli.showing import run_show

    raise typer.Exit(run_show(paths, interaction, as_json))


@app.command(help=_CONVERT, short_help="Bring recordings of any recorder into our form.")
def convert(
    paths: Paths,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="The folder to write to.", show_default="beside each file"
        ),
    ] = None,
    form: Annotated[
        Literal["yaml", "json"], typer.Option("--format", metavar="F", help="yaml or json.")
    ] = "yaml",
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    ttft: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            min=0,
            help="Where no times were recorded: seconds to the first piece.",
            show_default="no times",
        ),
    ] = None,
    tps: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            min=0.001,
            help="Where no times were recorded: pieces a second, mostly a token each.",
            show_default="no times",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Bring recordings into our form."""
    from llmbridge.cli.converting import Timing, run_convert

    raise typer.Exit(run_convert(paths, to, form, force, Timing(ttft, tps), as_json))


@app.command(help=_DIFF, short_help="Tell what differs between two recordings.")
def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="A file, a folder, or a glob.")],
    b: Annotated[str, typer.Argument(metavar="B", help="What to compare it with.")],
    as_json: AsJson = False,
) -> None:
    """Tell what differs."""
    from llmbridge.cli.comparing import run_diff

    raise typer.Exit(run_diff(a, b, as_json))


@app.command(help=_STATS, short_help="Count what recordings hold.")
def stats(paths: Paths, as_json: AsJson = False) -> None:
    """Count what recordings hold."""
    from llmbridge.cli.counting import run_stats

    raise typer.Exit(run_stats(paths, as_json))
