"""What a monitoring system reads at `/metrics`: requests, jobs, the worker and its memory, in Prometheus' format.

Counters begin at zero with the process. No label holds anything that a client sent. Knows nothing of how jobs are made.
"""

import time
from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.dispatcher import Dispatcher
from runtime.jobs import JobStore

#: Seconds; from a preview on a fast GPU to a long video on a CPU.
_STAGES = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000)
_ANSWERS = (0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10)
_METHODS = ("GET", "HEAD", "POST", "DELETE", "OPTIONS")


class Metrics:
    """The numbers of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._answers = Counter(
            "i2v_http_requests", "Answers of the server.", ("method", "route", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "i2v_http_request_seconds",
            "From a request to the first byte of its answer.",
            ("method", "route"),
            buckets=_ANSWERS,
            registry=self.registry,
        )
        self._ended = Counter(
            "i2v_jobs_ended", "Jobs that came to an end: completed, or by the code of their failure.", ("how",),
            registry=self.registry,
        )  # fmt: skip
        self._stages = Histogram(
            "i2v_job_stage_seconds",
            "How long each part of the work on a completed job took.",
            ("stage",),
            buckets=_STAGES,
            registry=self.registry,
        )

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts one answer."""
        method = method if method in _METHODS else "other"
        self._answers.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def ended(self, how: str, stages: Mapping[str, float]) -> None:
        """Counts a job that has ended: "completed", or the code of its failure."""
        self._ended.labels(how).inc()
        for stage, seconds in stages.items():
            self._stages.labels(stage).observe(seconds)

    def watch(self, store: JobStore, dispatcher: Dispatcher) -> None:
        """Has the numbers of now read from there, whenever somebody asks."""
        self.registry.register(_Now(store, dispatcher))

    def text(self) -> bytes:
        """All of them, as Prometheus reads them."""
        return generate_latest(self.registry)


class _Now(Collector):
    """What is not counted but looked up."""

    def __init__(self, store: JobStore, dispatcher: Dispatcher) -> None:
        self._store = store
        self._dispatcher = dispatcher

    def collect(self) -> Iterator[Metric]:
        """The numbers of this moment."""
        state, counts = self._dispatcher.state, self._store.counts()
        jobs = GaugeMetricFamily("i2v_jobs", "Jobs that the server knows.", labels=("status",))
        for status, count in counts.items():
            jobs.add_metric((status,), count)
        yield jobs
        yield GaugeMetricFamily("i2v_worker_ready", "Whether videos are made.", int(state.ready))
        yield GaugeMetricFamily("i2v_worker_restarts", "How often the worker died.", state.restarts)
        if room := state.room:
            memory = GaugeMetricFamily("i2v_device_memory_bytes", "Of the device, as last seen.", labels=("which",))
            memory.add_metric(("total",), room.total)
            memory.add_metric(("available",), room.available)
            yield memory

    def describe(self) -> list[Metric]:
        """Nothing is looked up when this is registered."""
        return []


class Counting:
    """The ASGI middleware that counts every answer by the route that gave it, never by its address."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, and counts when its answer begins."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "other")
                self._metrics.answered(scope["method"], route, message["status"], time.perf_counter() - began)
            await send(message)

        await self._app(scope, receive, sending)
