"""Base checkpoint to quantized checkpoint."""
