"""ONNX Runtime's names of the execution providers that targets are made for."""

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
WEBGPU = "WebGpuExecutionProvider"
DIRECTML = "DmlExecutionProvider"
TENSORRT_RTX = "NvTensorRTRTXExecutionProvider"
# Those of Windows, and of cards that no machine of ours has had: exported, looked through, and never run.
NEVER_RUN = (DIRECTML, TENSORRT_RTX)
PROVIDERS = (CPU, CUDA, WEBGPU, *NEVER_RUN)
