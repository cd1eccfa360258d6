"""ONNX Runtime's names of the execution providers that targets are made for."""

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
WEBGPU = "WebGpuExecutionProvider"
