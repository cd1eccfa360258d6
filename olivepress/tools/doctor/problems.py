"""What a profile needs and a machine lacks, and what to do about it."""

from olivepress.core.providers import CUDA, WEBGPU
from olivepress.tools.doctor.facts import Facts, gib
from olivepress.tools.doctor.needs import Needs

# The oldest Linux driver that runs programs built for a CUDA major version: within one, any minor version runs on it
# (NVIDIA, "CUDA Compatibility", minor version compatibility).
OLDEST_DRIVER = {11: "450.80.02", 12: "525.60.13", 13: "580.65.06"}
OPERATOR_CAPABILITY = "8.0"  # what operators/hatch_build.py compiles for
LOCK = "docker/requirements-cuda12.txt"


def problems(facts: Facts, needs: Needs) -> list[str]:
    """One line for each thing that the profile needs and the machine lacks: what, and what to do."""
    lines = []
    installed = {"torch": facts.torch, "onnxruntime": facts.onnxruntime, "onnxruntime-genai": facts.genai}
    lines += [f"{name} is not installed: run make setup." for name, version in installed.items() if version is None]
    if needs.cuda:
        lines += _cuda_problems(facts, needs)
    for target, provider in needs.providers.items():
        if provider == WEBGPU:
            lines += [f"targets.{target}.provider: {facts.webgpu}."] if facts.webgpu else []
        elif facts.onnxruntime and provider not in facts.providers:
            build = f"install {LOCK}" if provider == CUDA else "install the onnxruntime build that has it"
            lines.append(
                f"targets.{target}.provider: this onnxruntime has no {provider} (it has "
                f"{', '.join(facts.providers)}): {build}, or leave the target out."
            )
    if facts.lora_operator:
        lines += [f"targets.{target}.lora_operator: {facts.lora_operator}" for target in needs.lora_operator]
    if needs.memory and needs.memory > facts.memory:
        lines.append(
            f"memory: {needs.model} needs {gib(needs.memory)} for its weights alone, this machine has "
            f"{gib(facts.memory)}: take a smaller model, a shorter dtype or a larger machine."
        )
    if facts.cache_symlinked:
        lines.append(
            "DVC's cache.type is symlink, and ONNX Runtime reads no model data through a symbolic link: run "
            "dvc config --local cache.type reflink,hardlink,copy and dvc checkout --relink."
        )
    return lines + _disk_problems(facts, needs)


def _cuda_problems(facts: Facts, needs: Needs) -> list[str]:
    asked = ", ".join(needs.cuda)
    if facts.driver_error:
        return [
            f"the NVIDIA driver does not answer ({facts.driver_error}), and {asked} needs it: reload or reinstall it."
        ]
    if not facts.gpus:
        there = f"driver {facts.driver}, but no device" if facts.driver else "no NVIDIA driver"
        return [
            f"no GPU ({there}), and {asked} asks for CUDA: use a machine with one, start the container with "
            "--gpus all, or take a CPU profile (make params PROFILE=tiny)."
        ]
    lines = []
    if facts.torch and not facts.torch_cuda:
        lines.append(f"torch {facts.torch} is built without CUDA, and {asked} asks for it: install {LOCK}.")
    major = int((facts.torch_cuda or "12").partition(".")[0])
    oldest = OLDEST_DRIVER.get(major)
    if oldest and facts.driver and _version(facts.driver) < _version(oldest):
        lines.append(f"driver {facts.driver} is too old for CUDA {major}: install {oldest} or newer.")
    lines += _operator_problems(facts, needs)
    largest = max(facts.gpus, key=lambda gpu: gpu.memory)
    if needs.gpu_memory and needs.gpu_memory > largest.memory:
        lines.append(
            f"GPU memory: {needs.model} needs at least {gib(needs.gpu_memory)}, {largest.name} has "
            f"{gib(largest.memory)}: take a smaller model or a larger GPU."
        )
    elif needs.gpu_memory and needs.gpu_memory > max(gpu.free for gpu in facts.gpus):
        lines.append(
            f"GPU memory: {needs.model} needs at least {gib(needs.gpu_memory)}, only "
            f"{gib(max(gpu.free for gpu in facts.gpus))} is free: end what else runs there (nvidia-smi lists it)."
        )
    return lines


def _operator_problems(facts: Facts, needs: Needs) -> list[str]:
    return [
        f"targets.{target}.lora_operator: it needs compute capability {OPERATOR_CAPABILITY}, {gpu.name} has "
        f"{gpu.capability}: set it to false."
        for target in needs.lora_operator
        for gpu in facts.gpus
        if needs.providers[target] == CUDA and _version(gpu.capability) < _version(OPERATOR_CAPABILITY)
    ]


def _disk_problems(facts: Facts, needs: Needs) -> list[str]:
    if not needs.disk:
        return []
    disks = [("here", facts.disk_free, needs.disk)]
    if facts.cache_apart:
        disks.append((f"at {facts.cache} (DVC's cache)", facts.cache_free, needs.disk))
    elif not facts.cache_linked:
        disks = [("here, DVC's cache included", facts.disk_free, 2 * needs.disk)]
    return [
        f"disk: {needs.model} needs at least {gib(need)} {where}, {gib(free)} is free: free some, or put the "
        "cache elsewhere (dvc cache dir)."
        for where, free, need in disks
        if need > free
    ]


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())
