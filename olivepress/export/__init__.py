"""Quantized checkpoint to ONNX with open LoRA inputs; PEFT adapter to the file that fits it."""
