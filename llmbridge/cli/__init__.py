"""The command line: what each command takes and how it explains itself.

What a command does is imported when it runs, so that help is quick.
"""

import os
import re
import sys
from typing import Annotated

import typer

from llmbridge import __version__
from llmbridge.cli import cassette, kept
from llmbridge.errors import BridgeError

_TOP = """
Stand between LLM clients and providers: relay, record, replay and analyse every call.

\b
Examples:
  llmbridge demo                          watch replies stream; needs no key
  llmbridge serve                         relay to providers with your keys
  llmbridge serve --replay session.yaml   answer from recordings instead
  llmbridge usage --store session.yaml    sum up calls, tokens and cost
  llmbridge cassette lint cassettes/      find secrets in recordings
"""

_DEMO = """
Replay recorded sessions through a real server and watch the replies grow.

Starts a server on this machine that answers from sessions bundled with llmbridge, asks it over
HTTP as three different clients would, and shows what was intercepted. No key, no network.

\b
Examples:
  llmbridge demo
  llmbridge demo --speed 1            at the recorded pace
  llmbridge demo --plain | head -20   lines of text, as in a pipe
"""

_SERVE = """
Run a bridge that any client can use, until Ctrl-C or SIGTERM.

Prints one line to standard output when it is ready, 'llmbridge listening on http://HOST:PORT'.
How to point the SDKs at it, and one line for each call that ended, go to standard error.

\b
Examples:
  llmbridge serve --port 8080 --store session.yaml
      relay to the providers with your keys and keep what passes
  llmbridge serve --replay session.yaml --replay more/ --speed 1
      answer from recordings at the recorded pace, with no key and no network
  llmbridge serve --replay session.yaml --mode new_episodes
      answer from recordings, ask the provider for the rest and keep that, too
  llmbridge serve --upstream openai=http://127.0.0.1:9000 --no-token
      send what is for OpenAI to a server of your own
  llmbridge serve --config llmbridge.yaml
      take all that, providers, routes and changes of requests from a file
  llmbridge serve --port 8080 --workers 4 --store postgresql://llmbridge@db.example.org/usage
      serve from four processes, on this machine and on others
  LLMBRIDGE_TOKEN=... llmbridge serve --host 0.0.0.0 --allow-remote --tls-cert server.pem
      let other machines in, with a token of your choice, over HTTPS
"""

_TOKEN = """
Make a token for a person, and the line for the configuration file that lets its holder in.

The token is shown once and kept nowhere: the file has its hash, of which nobody can make a token.
Standard output has two lines, the token and the line for the file.

\b
Examples:
  llmbridge token alice
  llmbridge token alice --json | jq -r .token
"""

_SPELLED = (
    ("allow_remote=True", "--allow-remote"),
    ("base_urls names", "--upstream names"),
    ("by=", "--by "),
    ("force=True", "--force"),
    ("mode=", "--mode "),
    ("only=", "--only "),
    ("port=0", "--port 0"),
    ("since=", "--since "),
    ("until=", "--until "),
    ("store=", "--store "),
    ("a Store, or None for memory", "or memory"),
    ("token=None", "--no-token"),
    ("token=", "--token "),
)

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.add_typer(cassette.app, name="cassette")


def main() -> None:
    """Run the command line and leave with its exit code: 2 where it was used wrongly."""
    try:
        app(prog_name="llmbridge")
    except KeyboardInterrupt:
        # Before a command could see to it itself, as while it is imported.
        sys.exit(130)
    except BridgeError as error:
        typer.echo(f"llmbridge: {_as_options(error.message)}", err=True)
        sys.exit(2)


def _as_options(message: str) -> str:
    """A message of the library in the words of the command line."""
    for argument, option in _SPELLED:
        # What follows another character is part of a value.
        message = re.sub(rf"(?<!\S){re.escape(argument)}", option, message)
    return message


@app.callback(invoke_without_command=True, help=_TOP)
def _top(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(f"llmbridge {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(help=_DEMO, short_help="Watch bundled sessions stream through a real server.")
def demo(
    speed: Annotated[
        float,
        typer.Option(
            metavar="X",
            min=0,
            help="How many times faster than recorded; 1 is as recorded, 0 is instant.",
        ),
    ] = 2.5,
    plain: Annotated[
        bool,
        typer.Option(
            "--plain",
            help="Print lines of text instead of live panels, as happens by itself in a pipe.",
        ),
    ] = False,
) -> None:
    """Show the bundled sessions."""
    from llmbridge.cli.demonstration import demonstrate

    drawable = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    demonstrate(speed, live=drawable and not plain)


@app.command(help=_SERVE, short_help="Run a bridge for any client: relay, record, replay.")
def serve(
    host: Annotated[
        str | None,
        typer.Option(metavar="H", help="The address to listen on.", show_default="127.0.0.1"),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            metavar="P", min=0, max=65535, help="The port; 0 takes a free one.", show_default="0"
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            metavar="T",
            envvar="LLMBRIDGE_TOKEN",
            help="What clients must send as their API key. auto: a random one where a provider's key"
            " could be spent, none for --replay. A variable keeps it out of the process list.",
            show_default="auto",
        ),
    ] = None,
    no_token: Annotated[
        bool, typer.Option("--no-token", help="Let anybody in who can reach the port.")
    ] = False,
    replay: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="Answer from this cassette, or from the folder's, instead of a provider. Repeat it for"
            " more; the last recording of a request is served again and again.",
            show_default="relay to the providers",
        ),
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(
            metavar="MODE",
            help="When a --replay asks the provider, and records: none, once, new_episodes, all, rewrite, live or"
            " verify, as vcrpy and pytest-recording have it.",
            show_default="none",
        ),
    ] = None,
    record: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Ask the providers and add what passes to this cassette: --replay PATH --mode all.",
        ),
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            min=0,
            help="The pace of --replay: 0 is instant, 1 as recorded, 2 twice as fast.",
            show_default="0",
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where to keep what passes: a path that ends in .yaml or .json, the URL of a database such as"
            " sqlite:///usage.db or postgresql://user@host/database, or memory, which ends with the process.",
            show_default="memory",
        ),
    ] = None,
    no_bodies: Annotated[
        bool,
        typer.Option(
            "--no-bodies",
            help="Keep neither prompts nor answers in the --store: who asked, when, what it took, which tools.",
        ),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Serve from so many processes; the store has to be a database.",
            show_default="1",
        ),
    ] = None,
    upstream: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=URL",
            help="Reach this provider (anthropic, openai, ...) at another base URL. Repeat it for more.",
            show_default="the providers' own",
        ),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Read settings from this YAML, TOML or JSON file; options given here win over it.",
        ),
    ] = None,
    log: Annotated[
        str | None,
        typer.Option(
            metavar="LEVEL",
            help="What goes to standard error: warning; info, a line for each call; debug, bodies too.",
            show_default="info",
        ),
    ] = None,
    log_format: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            help="How it is written: text, or json, an object a line.",
            show_default="text",
        ),
    ] = None,
    metrics: Annotated[
        bool, typer.Option("--metrics", help="Count for Prometheus, at /metrics, behind the token.")
    ] = False,
    traces: Annotated[
        bool,
        typer.Option(
            "--traces",
            help="Send OpenTelemetry spans; start it with `opentelemetry-instrument -- llmbridge serve ...`.",
        ),
    ] = False,
    allow_remote: Annotated[
        bool,
        typer.Option(
            "--allow-remote", help="Allow a --host that other machines can reach; needs a token."
        ),
    ] = False,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Answer to this Host name, too, such as llm.example.org. Repeat it for more.",
            show_default="loopback names and H",
        ),
    ] = None,
    tls_cert: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Serve HTTPS with this PEM certificate and those up to its authority.",
        ),
    ] = None,
    tls_key: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="The certificate's key, where it is not in --tls-cert's file."
        ),
    ] = None,
) -> None:
    """Serve until a signal comes."""
    from typing import cast

    from llmbridge.cli.serving import base_urls, serve_until_stopped
    from llmbridge.configuration import LogFormat, LogLevel, Settings
    from llmbridge.upstreams.source import Mode

    options = Settings(
        host=host,
        port=port,
        token=token,
        no_token=no_token,
        replay=tuple(replay or ()),
        # A replay says itself which modes there are.
        mode=cast("Mode | None", mode),
        record=record,
        speed=speed,
        store=store,
        record_bodies=not no_bodies,
        workers=workers,
        upstream=base_urls(upstream or ()),
        allow_remote=allow_remote,
        allowed_hosts=tuple(allowed_host or ()),
        tls_cert=tls_cert,
        tls_key=tls_key,
        # What there is not is refused there, too.
        log=cast("LogLevel | None", log),
        log_format=cast("LogFormat | None", log_format),
        metrics=metrics,
        traces=traces,
    )
    serve_until_stopped(options, config)


kept.add_to(app)


@app.command(help=_TOKEN, short_help="Make a token for a person.")
def token(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whom calls with it are made for.")],
    as_json: cassette.AsJson = False,
) -> None:
    """Make a token."""
    from llmbridge.cli.tokens import run_token

    raise typer.Exit(run_token(name, as_json))
