"""Certificates from PEM files, for either side of a TLS connection. What is wrong with a file is told with its name.

There is no way to leave certificates unchecked: who trusts one of their own names it.
"""

import logging
import os
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from llmbridge.errors import ConfigurationError

_logger = logging.getLogger("llmbridge")

Certificate = str | os.PathLike[str] | tuple[str | os.PathLike[str], str | os.PathLike[str]]
"""A file with a certificate, those between it and its authority, and its key; or two files, the key in the second."""

T = TypeVar("T")


def client_context(
    ca: str | os.PathLike[str] | None = None, certificate: Certificate | None = None
) -> ssl.SSLContext:
    """How a client connects: it trusts the system's authorities and those of `ca`, and shows `certificate` where it is asked.

    Raises:
        ConfigurationError: a file cannot be read, or is not what it should be.
    """
    context = ssl.create_default_context()
    if ca is not None:
        path = _readable(ca)
        _told(path, "certificates", lambda: context.load_verify_locations(path))
    if certificate is not None:
        _load(context, certificate)
    return context


def server_context(certificate: Certificate) -> ssl.SSLContext:
    """How a server answers: TLS 1.2 or newer, with this certificate; one that was renewed is shown to the next who connects.

    Raises:
        ConfigurationError: a file cannot be read, or is not what it should be.
    """
    first = shown = _serving(certificate)
    seen = _stamps(certificate)

    def renew(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        nonlocal shown, seen
        found = _stamps(certificate)
        if found != seen:
            seen = found
            try:
                shown = _serving(certificate)
            except ConfigurationError as error:
                # Of two files one may be new already: the next change is looked at, too.
                _logger.warning("the certificate of before goes on: %s", error.message)
        if shown is not first:
            connection.context = shown

    first.sni_callback = renew
    return first


def _serving(certificate: Certificate) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _load(context, certificate)
    return context


def _files(certificate: Certificate) -> Sequence[str | os.PathLike[str]]:
    return certificate if isinstance(certificate, tuple) else (certificate,)


def _stamps(certificate: Certificate) -> list[tuple[int, int] | None]:
    """What changes when a file does."""
    stamps: list[tuple[int, int] | None] = []
    for file in _files(certificate):
        try:
            stat = Path(file).expanduser().stat()
        except OSError:
            stamps.append(None)
        else:
            stamps.append((stat.st_mtime_ns, stat.st_ino))
    return stamps


def _load(context: ssl.SSLContext, certificate: Certificate) -> None:
    names = [_readable(file) for file in _files(certificate)]
    key = None if len(names) == 1 else names[1]
    if key is None:
        what = "a certificate with its key (or give the key's file, too)"
    else:
        what = f"a certificate whose key is in {key!r}"
    # A key with a password would be asked for on the terminal, where nobody sits.
    _told(names[0], what, lambda: context.load_cert_chain(names[0], key, lambda: ""))


def _readable(file: str | os.PathLike[str]) -> str:
    path = Path(file).expanduser()
    try:
        with path.open("rb"):
            return str(path)
    except OSError as error:
        raise ConfigurationError(f"{str(path)!r} cannot be read: {error.strerror}") from error


def _told(path: str, what: str, load: Callable[[], T]) -> T:
    try:
        return load()
    except (OSError, ValueError) as error:
        # An SSLError is an OSError; its reason is a word such as KEY_VALUES_MISMATCH.
        why = getattr(error, "reason", None) or error
        raise ConfigurationError(
            f"{path!r} does not hold {what}, as PEM and without a password: {why}"
        ) from error
