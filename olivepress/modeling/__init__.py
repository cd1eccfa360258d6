"""Hugging Face checkpoints as PyTorch models, and Olive's passes over them."""
