"""Finetuning in several processes of one machine: what `accelerate` does with the Trainer, started as `torchrun` does.

Data parallel (ddp): every process holds the model and a share of each batch. Fully sharded (fsdp, PyTorch's FSDP2):
the weights are shared out, too, for models that one GPU does not hold. Either way a step sees the rows and takes the
mean over the tokens that one process would, so that the result does not depend on the number of processes but for
rounding, and for the dropout that each process draws for itself.
"""

import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from olivepress.core.errors import PressError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PARALLEL = ("none", "ddp", "fsdp")


def check(processes: int, parallel: str, batch_size: int, device: str, *, parts: int = 1) -> None:
    """PressError for a combination that cannot run, or not on this machine; ``parts`` of a step in each process."""
    if (processes == 1) != (parallel == "none"):
        raise PressError(
            f"finetune.parallel: is {parallel} with finetune.processes {processes}: "
            "one process takes none, more take ddp or fsdp."
        )
    if batch_size % processes:
        raise PressError(
            f"finetune.batch_size: {batch_size} rows cannot be shared out among {processes} processes: "
            f"expected a multiple of finetune.processes."
        )
    if batch_size % (processes * parts):
        raise PressError(
            f"finetune.batch_size: {batch_size} rows cannot be shared out: expected a multiple of finetune.processes "
            f"times finetune.gradient_accumulation_steps, {processes * parts}."
        )
    if device == "cuda" and processes > 1:
        import torch

        if torch.cuda.device_count() < processes:
            raise PressError(
                f"finetune.processes: {processes}, but this machine has {torch.cuda.device_count()} GPUs: one each."
            )


def launch(function: Callable[..., None], *arguments: Any, processes: int) -> None:
    """Run ``function(*arguments)`` in ``processes`` processes, each with torchrun's environment.

    A PressError in the processes comes out as one here. A signal ends them, then takes its usual course.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",  # any free port
        run_id="finetune",
        max_restarts=0,
        start_method="spawn",
    )
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        problem = elastic_launch(config, _work)(function, *arguments)[0]
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        raise PressError(
            f"finetune.processes: process {rank} of {processes} ended with status {failure.exitcode}: see its messages "
            "above. If it ran out of memory, lower finetune.batch_size or take finetune.parallel fsdp."
        ) from error
    except SignalException as stop:  # torch put its own handlers there: pass it on to ours
        signal.signal(stop.sigval, handlers[stop.sigval])
        signal.raise_signal(stop.sigval)
        raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if problem:
        raise PressError(problem)


def _work(function: Callable[..., None], *arguments: Any) -> str:
    """One process: what is wrong with the input, or nothing."""
    import torch

    rank = int(os.environ["LOCAL_RANK"])
    if rank < torch.cuda.device_count():  # on the CPU there may be more processes than GPUs
        torch.cuda.set_device(rank)
    try:
        function(*arguments)
        return ""
    except PressError as error:  # the same in every process: it is about the input
        return error.message
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def shard(model: "PreTrainedModel", device: str) -> "PreTrainedModel":
    """Share the frozen weights of ``model`` out among the processes, a layer at a time (PyTorch's fully_shard).

    An adapter added afterwards stays whole in every process; the Trainer keeps it the same everywhere. (accelerate's
    own FSDP wants one dtype for base and adapter, and on a CPU it falls back to data parallel without a word.)
    """
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo" if device == "cpu" else "nccl")
    mesh = init_device_mesh(device, (torch.distributed.get_world_size(),))
    model.requires_grad_(False)
    layers = [module for module in model.modules() if type(module).__name__ in model._no_split_modules]
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    # transformers: the model looks after its own placement, do not wrap it
    model._is_distributed_loading_by_transformers = True
    model._is_fsdp_managed_module = True
    return model
