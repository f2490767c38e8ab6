"""The HTML of what is put together from many parts; single values know their own."""

from collections.abc import Iterable, Sequence

from llmbridge.canon.markup import facts, panel, preformatted
from llmbridge.exchange.record import Interception, Store
from llmbridge.exchange.tables import interceptions_table

SHOWN = 5


def bridge_html(
    upstream: object, store: Store, served: Iterable[str], inflight: Sequence[Interception]
) -> str:
    """Where a bridge's replies come from, where it serves, and the newest of what was asked.

    A store that has to be searched is not read for this: then it is what is under way.
    """
    newest = store.interceptions()[::-1] if getattr(store, "at_once", False) else inflight
    parts = [facts(upstream=repr(upstream), store=repr(store))]
    parts += [preformatted(url) for url in served]
    if newest:
        parts.append(interceptions_table(newest[:SHOWN]))
        parts.append(facts(interceptions=f"{len(newest):,}", live=f"{len(inflight):,}"))
    return panel("Bridge", *parts)
