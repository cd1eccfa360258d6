"""Olive Press: presses a language model into a small, fine-tuned, on-device ONNX model."""

__version__ = "0.1.0"
