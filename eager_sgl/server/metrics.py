"""Prometheus metrics of one server."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from eager_sgl.engine.protocol import Json

__all__ = ["Metrics"]

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)


class Metrics:
    """The counters of a server; `naive - generated` are the tokens that sharing saved."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "eager_requests",
            "Requests by route and status.",
            ["route", "status"],
            registry=registry,
        )
        self.in_flight = Gauge(
            "eager_requests_in_flight", "Requests being answered.", registry=registry
        )
        self.seconds = Histogram(
            "eager_request_seconds",
            "From the request to the end of the answer.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.first_token_seconds = Histogram(
            "eager_first_token_seconds",
            "From the request to the first piece of a stream.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.tokens = Counter(
            "eager_tokens",
            "prompt; generated: decoded by the servers; naive: the same sequences without sharing.",
            ["kind", "method"],
            registry=registry,
        )
        self.sequences = Counter(
            "eager_sequences", "Sequences of answers.", ["method"], registry=registry
        )
        self.replicas_up = Gauge(
            "eager_replicas_up", "SGLang servers that answer.", registry=registry
        )

    def count(self, bill: Json) -> None:
        """Count the cost of an answer."""
        usage, details = bill["usage"], bill["eager"]
        method = details["method"]
        self.sequences.labels(method).inc(details["sequences"])
        self.tokens.labels("prompt", method).inc(usage.get("prompt_tokens") or 0)
        for kind in ("generated", "naive"):
            self.tokens.labels(kind, method).inc(details["tokens"][kind])

    def text(self) -> bytes:
        """All metrics in Prometheus' format."""
        return generate_latest(self._registry)
