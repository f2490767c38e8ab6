"""An authority of the tests' own, with certificates for this machine and for clients."""

from dataclasses import dataclass
from pathlib import Path
from ssl import CERT_REQUIRED, Purpose, SSLContext, create_default_context

import trustme


@dataclass(frozen=True, slots=True)
class Certified:
    """Files: the authority's, a server's chain and key, a client's certificate with its key in one."""

    authority: trustme.CA
    ca: str
    chain: str
    key: str
    client: str

    def serving(self, *, ask_clients: bool = False) -> SSLContext:
        """How a provider with that certificate answers."""
        context = create_default_context(Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.chain, self.key)
        if ask_clients:
            context.load_verify_locations(self.ca)
            context.verify_mode = CERT_REQUIRED
        return context

    def trusting(self) -> SSLContext:
        """How a client that trusts the authority connects."""
        return create_default_context(cafile=self.ca)


def certified_in(folder: Path) -> Certified:
    """The files, in this folder."""
    authority = trustme.CA()
    server = authority.issue_cert("127.0.0.1", "localhost")
    client = authority.issue_cert("bridge@example.org")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    for blob in server.cert_chain_pems:
        blob.write_to_path(folder / "chain.pem", append=True)
    server.private_key_pem.write_to_path(folder / "key.pem")
    client.private_key_and_cert_chain_pem.write_to_path(folder / "client.pem")
    names = ("ca.pem", "chain.pem", "key.pem", "client.pem")
    return Certified(authority, *(str(folder / name) for name in names))
