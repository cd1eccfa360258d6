"""Quantized checkpoint and data to a LoRA adapter."""
