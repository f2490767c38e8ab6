"""`llmbridge token`: a token for a person, and what the bridge's configuration keeps of it."""

import json

import typer

from llmbridge.cli.screen import FINE, say_json
from llmbridge.exchange.actors import checked_name
from llmbridge.frontends.people import hashed, make_token


def run_token(name: str, as_json: bool) -> int:
    """Make a token, show it once with the line for the file; the exit code.

    Raises:
        ConfigurationError: the name cannot be one.
    """
    token = make_token()
    kept = {"name": checked_name(name), "token": hashed(token)}
    if as_json:
        say_json({**kept, "token": token, "sha256": kept["token"]})
        return FINE
    typer.echo(f"for {name}, shown only now; it is sent as the API key:", err=True)
    typer.echo(token)
    typer.echo("for the file of llmbridge serve --config, below people:", err=True)
    # JSON is YAML, whatever stands in the name.
    typer.echo(f"  - {json.dumps(kept, ensure_ascii=False)}")
    return FINE
