"""What Prometheus is told: requests, tokens, times. Nothing of what was said."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from olivepress.serve.engine import Engine

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """Of one server."""

    def __init__(self, engine: Engine) -> None:
        self._registry = CollectorRegistry()
        own = {"registry": self._registry, "namespace": "olivepress"}
        self.requests = Counter(
            "requests", "Requests, by what they asked for and HTTP status.", ["route", "status"], **own
        )
        self.prompt_tokens = Counter("prompt_tokens", "Tokens of prompts.", **own)
        self.answer_tokens = Counter("answer_tokens", "Tokens of answers.", **own)
        self.ended = Counter("answers", "Answers, by why they ended.", ["reason"], **own)
        self.first_token = Histogram(
            "time_to_first_text_seconds", "From a request to its answer's first text.", buckets=SECONDS, **own
        )
        self.duration = Histogram("answer_seconds", "From a request to its answer's end.", buckets=SECONDS, **own)
        for name, words, value in (
            ("answers_running", "Answers that are being written.", lambda: engine.running),
            ("requests_waiting", "Requests that wait for room.", lambda: engine.waiting),
            ("slots", "Answers that may be written at a time.", lambda: engine.slots),
        ):
            Gauge(name, words, **own).set_function(value)

    def text(self) -> bytes:
        """All of it, in Prometheus's format."""
        return generate_latest(self._registry)
