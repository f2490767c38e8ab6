"""What is secret by its name, and what merely stands in for a secret."""

import re
from collections.abc import Mapping

_SEVERAL = re.compile(r"(?i)api_key$")
_VARIABLE = re.compile(r"(?i)(key|token|secret|password|passwd)$")
_HEADER = re.compile(
    r".*(auth(?!ors?(?:-|$))|(?<!idempotency-)key|token|secret|password|credential|cookie|signature|jwt).*"
)
_STAND_IN = re.compile(
    r"(?i)(?:(?:bearer|basic|token|key) )?"
    r"(?:<[^<>]*>|\[[^\[\]\"]*\]|\{\{?[^{}\"]*\}?\}|\$.*|[x*.#_-]*|[0-9]{1,6}|none|null|secret)"
    r"|.*(?:(?<![a-z0-9])(?:redacted|filtered|dummy|fake|placeholder|scrubbed|saniti[sz]ed|masked"
    r"|removed|hidden|example|mock|test|testing|your|llmbridge)(?![a-z0-9])|x{3}|\*{3}).*"
)
_ATTRIBUTE = re.compile(r"(?i)(?:path|domain|expires|max-age|samesite)=.*|[^=]*")


def secrets_of(environ: Mapping[str, str]) -> set[str]:
    """The values of the variables whose names say that they are secret."""
    secrets = {value for name, value in environ.items() if _VARIABLE.search(name)}
    # A provider's variable may hold several keys.
    lists = [value for name, value in environ.items() if _SEVERAL.search(name)]
    return secrets.union(*(value.split(",") for value in lists))


def masked(secret: str) -> str:
    """Enough of a key to tell it from others: `sk-p...4xyz`. Source: aibridge, which masks by these lengths."""
    shown = next((n for n, least in ((4, 20), (2, 10), (1, 5)) if len(secret) >= least), 0)
    if not secret or not shown:
        return "..." if secret else ""
    return f"{secret[:shown]}...{secret[-shown:]}"


def sounds_secret(header: str) -> bool:
    """True for the name of a header that carries a credential."""
    return _HEADER.fullmatch(header.lower()) is not None


def stands_in(text: str) -> bool:
    """True for what people put in place of a secret: `REDACTED`, `***`, `test_api_key`, `<token>`, `$KEY`."""
    first, *others = (part.strip() for part in text.split(";"))
    # Of a cookie each value counts, its attributes do not.
    values = [first, *(part for part in others if not _ATTRIBUTE.fullmatch(part))]
    return all(_STAND_IN.fullmatch(value) for value in values)
