"""One thread that writes all answers: whoever waits is let in as soon as there is room, all go on a token at a time.

Answers with the same adapter are computed together, those with different ones after each other in each turn.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Condition, Thread
from typing import TYPE_CHECKING

from olivepress.core.errors import PressError, first_sentence
from olivepress.core.report import note
from olivepress.runtime.sampling import StopText
from olivepress.serve.cache import KeyValueCache
from olivepress.serve.chooser import Chooser
from olivepress.serve.decoder import Adapter, Decoder
from olivepress.serve.errors import ApiError

if TYPE_CHECKING:
    import numpy as np
    import onnxruntime_genai as og


@dataclass(frozen=True)
class Piece:
    """Text of an answer, as it comes; ``tokens`` of it so far."""

    text: str
    tokens: int


@dataclass(frozen=True)
class End:
    """An answer is complete. ``reason``: OpenAI's "stop" (the model's end, or a stop text) or "length"."""

    reason: str
    tokens: int


@dataclass(eq=False)
class Job:
    """One answer to be written: to the prompt ``ids``, at most ``most`` tokens, before ``deadline`` (time.monotonic).

    ``said``: the prompt's last words, for a log that may have them. ``emit`` is called by the engine's thread with a
    Piece for text, and at last with an End, or an ApiError.
    """

    ids: list[int]
    most: int
    adapter: Adapter | None
    chooser: Chooser
    stream: "og.TokenizerStream"
    stop: StopText
    deadline: float
    emit: Callable[[Piece | End | ApiError], None]
    said: str = ""
    cancelled: bool = False
    tokens: list[int] = field(default_factory=list)
    started: float = 0.0

    def cancel(self) -> None:
        """Nobody waits for it any more: it is dropped at the next token."""
        self.cancelled = True


@dataclass
class _Batch:
    """The answers with one adapter, each in the row of ``cache`` that has its place in ``jobs``."""

    cache: KeyValueCache
    jobs: list[Job] = field(default_factory=list)


class Engine:
    """At most ``slots`` answers at a time, and ``queue`` requests that wait. ``ends``: tokens that end an answer."""

    def __init__(self, decoder: Decoder, ends: frozenset[int], *, slots: int, queue: int) -> None:
        self._decoder, self._ends = decoder, ends
        self.slots, self.queue = slots, queue
        self._waiting: deque[Job] = deque()
        self._batches: dict[Adapter | None, _Batch] = {}
        self._condition = Condition()
        self._stopping = False
        self._seconds = 1.0  # that an answer took, lately
        self._thread = Thread(target=self._work, name="engine", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and every answer with an error."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether the thread is there."""
        return self._thread.is_alive()

    @property
    def running(self) -> int:
        """Answers that are being written."""
        return sum(len(batch.jobs) for batch in list(self._batches.values()))

    @property
    def waiting(self) -> int:
        """Requests that wait for room."""
        return len(self._waiting)

    def active(self, adapter: Adapter) -> int:
        """Answers with this adapter that are being written or waited for."""
        batch = self._batches.get(adapter)
        return (len(batch.jobs) if batch else 0) + sum(job.adapter is adapter for job in list(self._waiting))

    def refuse_if_full(self) -> None:
        """ApiError 429 if as many wait as may, 503 if the engine ends."""
        if self._stopping or not self.alive:
            raise ApiError(503, "the server is shutting down.", "shutting_down")
        if len(self._waiting) >= self.queue + max(0, self.slots - self.running):
            seconds = max(1, round(self._seconds * (len(self._waiting) + 1) / self.slots))
            raise ApiError(
                429,
                f"{self.running} answers are being written and {len(self._waiting)} requests wait, as many as may.",
                "queue_full",
                headers={"Retry-After": str(seconds)},
            )

    def submit(self, job: Job) -> None:
        """Have an answer written; ApiError as of `refuse_if_full`."""
        with self._condition:
            self.refuse_if_full()
            self._waiting.append(job)
            self._condition.notify()

    def _work(self) -> None:
        try:
            while True:
                with self._condition:
                    while not (self._waiting or self._batches or self._stopping):
                        self._condition.wait()
                    if self._stopping:
                        break
                    job = self._next()
                if job:
                    self._admit(job)
                for adapter, batch in list(self._batches.items()):
                    self._advance(adapter, batch)
        finally:
            self._end_all()

    def _next(self) -> Job | None:
        """The first that waits, if there is room; those that nobody waits for, or that waited too long, go."""
        for job in list(self._waiting):
            if self._over(job):
                self._waiting.remove(job)
        return self._waiting.popleft() if self._waiting and self.running < self.slots else None

    def _over(self, job: Job) -> bool:
        """Whether its time is over, or the client is gone; it is told."""
        if not job.cancelled and time.monotonic() > job.deadline:
            job.emit(ApiError(504, "the time for a request is over.", "timeout", headers={"x-should-retry": "false"}))
            return True
        return job.cancelled

    def _admit(self, job: Job) -> None:
        """Read its prompt and choose its first token; between two prompts the others get a token each."""
        job.started = time.monotonic()
        batch = self._batches.get(job.adapter) or _Batch(self._decoder.new_cache())
        try:
            logits = self._decoder.prompt(batch.cache, job.ids, len(job.ids) + job.most, job.adapter)
        except Exception as error:
            job.emit(_broken(error))
            return
        self._batches[job.adapter] = batch
        batch.jobs.append(job)
        if self._took(job, logits):
            self._leave(job.adapter, batch, [job])

    def _advance(self, adapter: Adapter | None, batch: _Batch) -> None:
        """The next token of every answer in ``batch``."""
        self._leave(adapter, batch, [job for job in batch.jobs if self._over(job)])
        if not batch.jobs:
            return
        try:
            rows = self._decoder.step(batch.cache, [job.tokens[-1] for job in batch.jobs], adapter)
        except Exception as error:
            for job in batch.jobs:
                job.emit(_broken(error))
            del self._batches[adapter]
            return
        self._leave(
            adapter, batch, [job for job, logits in zip(batch.jobs, rows, strict=True) if self._took(job, logits)]
        )

    def _leave(self, adapter: Adapter | None, batch: _Batch, jobs: list[Job]) -> None:
        for job in jobs:
            row = batch.jobs.index(job)
            batch.cache.remove(row)
            batch.jobs[row] = batch.jobs[-1]
            batch.jobs.pop()
            self._seconds += (time.monotonic() - job.started - self._seconds) / 8
        if not batch.jobs:
            self._batches.pop(adapter, None)  # and its memory with it

    def _took(self, job: Job, logits: "np.ndarray") -> bool:
        """Choose a token of an answer by its logits; whether that was the last."""
        import numpy as np

        try:
            if not np.isfinite(logits).all():
                raise PressError("the logits are not finite (NaN or infinite): the model is broken.")
            token = job.chooser.choose(logits, job.ids + job.tokens)
            job.tokens.append(token)
            ended = token in self._ends
            piece = "" if ended else job.stop.passed(job.stream.decode(token))
            over = len(job.tokens) >= job.most
            if ended or (over and not job.stop.reached):
                piece += job.stop.rest()
        except Exception as error:
            job.emit(_broken(error))
            return True
        if piece:
            job.emit(Piece(piece, len(job.tokens)))
        if ended or job.stop.reached or over:
            job.emit(End("stop" if ended or job.stop.reached else "length", len(job.tokens)))
            return True
        return False

    def _end_all(self) -> None:
        with self._condition:
            self._stopping = True
            left = [*self._waiting, *(job for batch in self._batches.values() for job in batch.jobs)]
            self._waiting.clear()
            self._batches.clear()
        for job in left:
            job.emit(ApiError(503, "the server is shutting down.", "shutting_down"))


def _broken(error: Exception) -> ApiError:
    """What a client is told when its answer could not be computed; the server's log has the reason."""
    note(f"An answer failed: {type(error).__name__}: {first_sentence(error)}")
    if isinstance(error, MemoryError):
        return ApiError(503, "out of memory: fewer or shorter requests at a time.", "out_of_memory")
    return ApiError(500, "the model could not compute this answer: see the server's log.", "model_failed")
