"""llmbridge.stores.digester: calls that end are read beside those who relay."""

from collections.abc import Sequence
from threading import Event

from llmbridge.exchange.record import Interception, Record
from llmbridge.stores.digester import Digester
from tests.samples import asked, ended

MANY = 3_000


def test_waiting_is_for_what_has_ended_before_and_not_for_what_ends_meanwhile():
    digested: list[str] = []
    waited = Event()

    def digest(interception: Interception, _: Sequence[Record]) -> None:
        digested.append(interception.id)
        # As under load: there is always another one.
        if not waited.wait(0.001) and len(digested) < MANY:
            end()

    def end() -> None:
        call = ended(asked(str(len(digested))))
        digester.begin(call)
        digester.end(call)

    digester = Digester(digest, "a test reads")
    end()
    digester.wait()
    waited.set()
    digester.finish()

    assert len(digested) < MANY
