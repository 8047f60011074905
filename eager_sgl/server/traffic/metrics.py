"""Prometheus metrics of one server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from eager_sgl.engine.protocol import Json

__all__ = ["Metrics"]

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)
_SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


class Metrics:
    """The metrics of a server; `naive - generated` are the tokens that sharing saved.

    No label has a value that clients choose: there are routes, statuses, methods, kinds of tokens
    and the operator's SGLang servers.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = self._counter(
            "eager_requests", "Requests by route and status.", "route", "status"
        )
        self.tokens = self._counter(
            "eager_tokens",
            "prompt; generated: decoded by the servers; naive: the same sequences without sharing.",
            "kind",
            "method",
        )
        self.sequences = self._counter("eager_sequences", "Sequences of answers.", "method")
        self.branches = self._counter("eager_branches", "Branch points of answers.", "method")
        self.seconds = self._histogram(
            "eager_request_seconds", "From the request to the end of the answer.", "route"
        )
        self.first_token_seconds = self._histogram(
            "eager_first_token_seconds", "From the request to the first piece of a stream.", "route"
        )
        self.saved_share = self._histogram(
            "eager_saved_share",
            "1 - generated / naive of an answer; below 0 as 0.",
            "method",
            buckets=_SHARES,
        )
        self.in_flight = self._gauge("eager_requests_in_flight", "Requests that run or wait.")
        self.waiting = self._gauge("eager_requests_waiting", "Requests that wait for their turn.")
        self.sequences_in_flight = self._gauge(
            "eager_sequences_in_flight", "Sequences and probes of the requests that run, at most."
        )
        self.replicas_up = self._gauge("eager_replicas_up", "SGLang servers that answer.")
        self.replica_up = self._gauge(
            "eager_replica_up", "Whether an SGLang server answers.", "replica"
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self._registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self._registry)

    def _histogram(
        self, name: str, text: str, *labels: str, buckets: Sequence[float] = _SECONDS
    ) -> Histogram:
        return Histogram(name, text, labels, buckets=buckets, registry=self._registry)

    def count(self, bill: Json) -> None:
        """Count the cost of an answer."""
        usage, details = bill["usage"], bill["eager"]
        method, tokens = details["method"], details["tokens"]
        self.sequences.labels(method).inc(details["sequences"])
        self.branches.labels(method).inc(details["branch_points"])
        self.tokens.labels("prompt", method).inc(usage.get("prompt_tokens") or 0)
        for kind in ("generated", "naive"):
            self.tokens.labels(kind, method).inc(tokens[kind])
        if tokens["naive"]:
            share = 1 - tokens["generated"] / tokens["naive"]
            self.saved_share.labels(method).observe(max(0.0, share))

    def note_replicas(self, states: Mapping[str, bool]) -> None:
        """Note whether every SGLang server answers, by URL."""
        self.replicas_up.set(sum(states.values()))
        for url, is_up in states.items():
            self.replica_up.labels(url).set(is_up)

    def text(self) -> bytes:
        """All metrics in Prometheus' format."""
        return generate_latest(self._registry)
