"""What happened, for Prometheus: the same numbers as the frames, counted as interceptions end.

Source: aibridge's metrics, names and labels. Needs the extra `otel`.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from itertools import chain
from threading import Lock
from types import MappingProxyType
from typing import Any

from llmbridge.errors import ConfigurationError
from llmbridge.exchange.breaker import Change, CircuitBreaker, Place, State
from llmbridge.exchange.columns import named
from llmbridge.exchange.entry import Entry
from llmbridge.exchange.record import Interception, Record, Store
from llmbridge.exchange.rows import interception_rows, prompt_rows, token_usage_rows, tool_call_rows
from llmbridge.stores.followed import FollowedStore
from llmbridge.stores.opening import open_store

BUCKETS_S = (0.5, 2, 5, 15, 30, 60, 120)
MOST_VALUES = 1000
"""How many models, routes, clients and actors are told apart; the rest is `other`, since clients choose these words."""

_TYPES = {
    "input_tokens": "input",
    "output_tokens": "output",
    "cache_read_tokens": "cache_read_input_tokens",
    "cache_write_tokens": "cache_write_input_tokens",
    "reasoning_tokens": "reasoning",
}
_STATES: Mapping[State, float] = MappingProxyType({"closed": 0, "half_open": 0.5, "open": 1})
_UNREAD = ("opaque", "models")


class MeteredStore(FollowedStore):
    """A store that counts: `Bridge(store=MeteredStore())` serves the counts at `/metrics`.

    `store` is what `Bridge(store=...)` takes, and is closed with it.

    Raises:
        ConfigurationError: prometheus-client is not installed, or there is no such store.
    """

    def __init__(self, store: Store | str | os.PathLike[str] | None = None) -> None:
        try:
            prometheus: Any = import_module("prometheus_client")
        except ImportError as error:
            raise ConfigurationError(
                "metrics need prometheus-client: pip install 'llmbridge[otel]'"
            ) from error
        self._counts = _Counts(prometheus)
        self._under_way: dict[str, Interception] = {}
        super().__init__(open_store(store), self._counts.take)
        self.metrics = self

    def watch(self, breaker: CircuitBreaker) -> None:
        """Tell of a breaker's circuits, too."""
        self._counts.watch(breaker)

    async def begin(self, interception: Interception) -> None:
        """Pass it on; it is in flight from here."""
        try:
            await super().begin(interception)
        except Exception:
            self._counts.refused()
            raise
        self._under_way[interception.id] = interception
        self._counts.begun(interception)

    def end(self, interception: Interception) -> None:
        """Pass it on, and count it."""
        if begun := self._under_way.pop(interception.id, None):
            self._counts.over(begun)
        super().end(interception)

    def render_metrics(self) -> bytes:
        """The counts in Prometheus' text format; all that has ended is in them."""
        self.catch_up()
        return self._counts.render(tuple(self._under_way.values()))


class _Counts:
    """The metrics of one store, in a registry of their own."""

    def __init__(self, prometheus: Any) -> None:
        self._prometheus = prometheus
        self._registry = prometheus.CollectorRegistry()
        self._seen: dict[str, set[str]] = {}
        self._rendering = Lock()
        who = ("initiator_id", "client")
        asked = ("provider", "model", "status", "route", "method", *who)
        self._interceptions = self._counter("interceptions", "Interceptions that ended.", asked)
        self._prompts = self._counter("prompts", "Prompts.", ("provider", "model", *who))
        self._tokens = self._counter("tokens", "Tokens.", ("provider", "model", "type", *who))
        tool = ("provider", "model", "name")
        self._injected = self._counter(
            "injected_tool_invocations",
            "Tools that the bridge ran.",
            ("provider", "model", "server", "name"),
        )
        self._selected = self._counter(
            "non_injected_tool_selections", "Tools that clients were asked to run.", tool
        )
        self._passed = self._counter(
            "passthrough", "Calls that were only passed on.", ("provider", "route", "method")
        )
        self._durations = prometheus.Histogram(
            "interceptions_duration_seconds",
            "How long interceptions took.",
            ("provider", "model"),
            buckets=BUCKETS_S,
            registry=self._registry,
        )
        self._in_flight = prometheus.Gauge(
            "interceptions_inflight",
            "Interceptions under way.",
            ("provider", "model", "route"),
            registry=self._registry,
            multiprocess_mode="livesum",
        )
        self._failures = self._counter(
            "store_failures", "Calls that were refused, since the store could not record them.", ()
        )
        place = ("provider", "endpoint", "model")
        self._trips = self._counter("circuit_breaker_trips", "How often a circuit opened.", place)
        self._rejects = self._counter("circuit_breaker_rejects", "Calls that were refused.", place)
        self._states = _States()
        self._shown = self._registry
        self._together = "PROMETHEUS_MULTIPROC_DIR" in os.environ
        if self._together:
            # The workers of one server: each answers for all of them.
            self._shown = prometheus.CollectorRegistry()
            multiprocess: Any = import_module("prometheus_client.multiprocess")
            multiprocess.MultiProcessCollector(self._shown)
        self._shown.register(self._states)

    def watch(self, breaker: CircuitBreaker) -> None:
        """Count what becomes of its circuits, and show how they stand."""
        if breaker not in self._states.breakers:
            self._states.breakers.append(breaker)
            breaker.follow(self._changed)

    def _changed(self, place: Place, change: Change) -> None:
        provider, endpoint, model = place
        counter = self._trips if change == "trip" else self._rejects
        counter.labels(
            provider, self._known("endpoint", endpoint), self._known("model", model)
        ).inc()

    def begun(self, interception: Interception) -> None:
        """Let other processes know; alone, what is under way is counted when somebody asks."""
        if self._together:
            self._one_in_flight(interception).inc()

    def refused(self) -> None:
        """Count a call whose start could not be recorded."""
        self._failures.inc()

    def over(self, interception: Interception) -> None:
        """The same of its end."""
        if self._together:
            self._one_in_flight(interception).dec()

    def take(self, interception: Interception, records: Sequence[Record]) -> None:
        """Count what has ended."""
        # Copies: a decoded message stays with its record, and the store keeps the record.
        entry = Entry(interception.id, interception, tuple(replace(each) for each in records))
        provider, route = interception.provider or "", self._route(interception)
        method = interception.request.method
        if interception.dialect in _UNREAD:
            self._passed.labels(provider, route, method).inc()
            return
        row = next(named("interceptions", interception_rows([entry])))
        model = self._known("model", row["model"])
        who = (self._known("actor", interception.actor), self._known("client", interception.client))
        status = "completed" if interception.end == "completed" else "failed"
        self._interceptions.labels(provider, model, status, route, method, *who).inc()
        if row["duration_s"] is not None:
            self._durations.labels(provider, model).observe(row["duration_s"])
        for _ in prompt_rows([entry]):
            self._prompts.labels(provider, model, *who).inc()
        for used in named("token_usage", token_usage_rows([entry])):
            for column, kind in _TYPES.items():
                if used[column]:
                    self._tokens.labels(provider, model, kind, *who).inc(used[column])
        for call in named("tool_calls", tool_call_rows([entry])):
            name = self._known("tool", call["name"])
            if call["injected"]:
                server = self._known("server", call["server"])
                self._injected.labels(provider, model, server, name).inc()
            else:
                self._selected.labels(provider, model, name).inc()

    def render(self, under_way: Iterable[Interception]) -> bytes:
        """All of it, with what is under way now."""
        with self._rendering:
            if not self._together:
                self._in_flight.clear()
                for each in under_way:
                    self._one_in_flight(each).inc()
            text: bytes = self._prometheus.generate_latest(self._shown)
            return text

    def _one_in_flight(self, interception: Interception) -> Any:
        model = self._known("model", interception.model)
        return self._in_flight.labels(interception.provider or "", model, self._route(interception))

    def _route(self, interception: Interception) -> str:
        """The path without the provider's name; it may hold a model."""
        path, name = interception.request.path, f"/{interception.provider}/"
        return self._known("route", path[len(name) - 1 :] if path.startswith(name) else path)

    def _counter(self, name: str, about: str, labels: Sequence[str]) -> Any:
        return self._prometheus.Counter(name, about, labels, registry=self._registry)

    def _known(self, label: str, value: object) -> str:
        word, seen = str(value or "")[:200], self._seen.setdefault(label, set())
        if word not in seen and len(seen) >= MOST_VALUES:
            return "other"
        seen.add(word)
        return word


class _States:
    """How the circuits of breakers stand: those of this process, also where workers add up what they count."""

    def __init__(self) -> None:
        self.breakers: list[CircuitBreaker] = []
        self._core: Any = import_module("prometheus_client.core")

    def collect(self) -> Iterator[Any]:
        """The one family."""
        labels = ("provider", "endpoint", "model")
        about = "0 closed, 0.5 half open, 1 open."
        states = self._core.GaugeMetricFamily("circuit_breaker_state", about, labels=labels)
        for circuit in chain.from_iterable(breaker.circuits for breaker in self.breakers):
            place = (circuit.provider, circuit.endpoint, circuit.model)
            states.add_metric(place, _STATES[circuit.state])
        yield from [states] if self.breakers else []
