"""What the service counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

from packer._version import VERSION

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Counters of one service, in a registry of their own; threads may share them."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "layer_packer_serve_requests",
            "Answers, by page and status.",
            ("page", "status"),
            registry=self._registry,
        )
        self.seconds = Histogram(
            "layer_packer_serve_request_seconds",
            "Time from a request to the end of its answer, by page.",
            ("page",),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self.running = Gauge(
            "layer_packer_serve_requests_running",
            "Requests that are worked on.",
            registry=self._registry,
        )
        self.cancelled = Counter(
            "layer_packer_serve_requests_cancelled",
            "Requests that ended before their answer: gone (the client left), late, or busy.",
            ("why",),
            registry=self._registry,
        )
        self.sent = Counter(
            "layer_packer_serve_sent_bytes",
            "Bytes of files that were sent.",
            registry=self._registry,
        )
        self.opened = Counter(
            "layer_packer_serve_versions_opened",
            "Versions whose index was read, as it was not kept.",
            registry=self._registry,
        )
        Info("layer_packer_serve", "The program.", registry=self._registry).info(
            {"version": VERSION}
        )

    def text(self) -> bytes:
        """Return all of them in the format of Prometheus."""
        return generate_latest(self._registry)
