"""`llmbridge cassette`: what each of its commands takes and how it explains itself.

What a command does is imported when it runs, so that help is quick.
"""

from typing import Annotated

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
