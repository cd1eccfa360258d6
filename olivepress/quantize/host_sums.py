"""The mean activation that AWQ's scale search starts from, summed on the CPU beside the GPU's work."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class HostSums:
    """Per channel, the sum of |x| over all tokens: float32 on the CPU, as AutoAWQ has it, in a thread of its own."""

    def __init__(self, pool: ThreadPoolExecutor, chunk_bytes: int) -> None:
        import torch

        self._pool, self._chunk_bytes = pool, chunk_bytes
        self._running: dict[int, Future | list[torch.Tensor]] = {}
        self._buffers: tuple[torch.Tensor, torch.Tensor] | None = None
        self._stream: torch.cuda.Stream | None = None

    def start(self, x: "torch.Tensor") -> None:
        """Begin with ``x`` [..., channels], which must not change until the result was asked for."""
        import torch

        if not x.is_cuda:
            return  # the CPU has nothing else to do meanwhile
        ready = torch.cuda.Event()
        ready.record()
        self._running[x.data_ptr()] = self._pool.submit(self._on_host, x.view(-1, x.shape[-1]), ready)

    def share(self, x: "torch.Tensor", copy: "torch.Tensor") -> None:
        """``copy`` holds what ``x`` holds."""
        if x.data_ptr() in self._running:
            self._running[copy.data_ptr()] = self._running[x.data_ptr()]

    def result(self, x: "torch.Tensor") -> "torch.Tensor":
        """The sum [channels], float32, on x's device."""
        import torch

        flat = x.view(-1, x.shape[-1])
        running = self._running.get(x.data_ptr())
        if running is None:
            parts = [part.cpu().abs().to(torch.float32).sum(dim=0) for part in flat.split(self._rows(flat))]
        else:
            parts = running.result()
        total = torch.zeros(flat.shape[1], dtype=torch.float32, device=x.device)
        for part in parts:
            total += part.to(x.device)
        return total

    def clear(self) -> None:
        """Forget all tensors; waits for those still running."""
        for running in self._running.values():
            running.result()
        self._running.clear()

    def _rows(self, flat: "torch.Tensor") -> int:
        """AutoAWQ's chunk: its sums are added up chunk by chunk."""
        return min(self._chunk_bytes // (flat.element_size() * 2 * flat.shape[1]), len(flat))

    def _on_host(self, flat: "torch.Tensor", ready: "torch.cuda.Event") -> "list[torch.Tensor]":
        import torch

        if self._stream is None:
            self._stream = torch.cuda.Stream(flat.device)
        rows = self._rows(flat)
        if self._buffers is None or self._buffers[0].numel() < rows * flat.shape[1]:
            size = max(rows * flat.shape[1], self._chunk_bytes // (flat.element_size() * 2))
            self._buffers = (
                torch.empty(size, dtype=flat.dtype, pin_memory=True),
                torch.empty(size, dtype=torch.float32),
            )
        sums = []
        with torch.no_grad(), torch.cuda.stream(self._stream):
            self._stream.wait_event(ready)
            for part in flat.split(rows):
                narrow, wide = (buffer[: part.numel()].view(part.shape) for buffer in self._buffers)
                narrow.copy_(part, non_blocking=True)
                self._stream.synchronize()
                wide.copy_(narrow.abs_())
                sums.append(wide.sum(dim=0))
        return sums
