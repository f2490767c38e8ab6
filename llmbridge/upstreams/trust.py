"""Which certificates a provider is met with: the row's own, else those of the upstream."""

import os
import ssl
from collections.abc import Iterable

from llmbridge.certificates import Certificate, client_context
from llmbridge.errors import ConfigurationError
from llmbridge.providers import Provider


class Trust:
    """Finds the TLS context of a provider, each made once; None where the default will do.

    Raises:
        ConfigurationError: a file cannot be read, or is not what it should be.
    """

    def __init__(
        self, ca: str | os.PathLike[str] | None = None, certificate: Certificate | None = None
    ) -> None:
        self._own = None if ca is None and certificate is None else client_context(ca, certificate)
        self._ca = ca
        self._certificate = certificate
        self._made: dict[tuple[str | None, tuple[str, ...]], ssl.SSLContext] = {}

    def of(self, provider: Provider) -> ssl.SSLContext | None:
        """The context to connect with.

        Raises:
            ConfigurationError: a file of the row cannot be read, or is not what it should be.
        """
        files = provider.ca, provider.cert
        if files == (None, ()):
            return self._own
        context = self._made.get(files)
        if context is None:
            certificate = _certificate_of(provider) or self._certificate
            context = self._made[files] = client_context(provider.ca or self._ca, certificate)
        return context


def check_trust(providers: Iterable[Provider]) -> None:
    """See that the files of these rows can be used, before somebody asks.

    Raises:
        ConfigurationError: one cannot be read, or is not what it should be; names the provider, too.
    """
    trust = Trust()
    for provider in providers:
        try:
            trust.of(provider)
        except ConfigurationError as error:
            raise ConfigurationError(f"provider {provider.name!r}: {error.message}") from error


def _certificate_of(provider: Provider) -> Certificate | None:
    match provider.cert:
        case ():
            return None
        case (both,):
            return both
        case (certificate, key):
            return certificate, key
        case _:
            raise ConfigurationError(
                f"there are {len(provider.cert)} files in cert: give one with certificate and key, or two"
            )
