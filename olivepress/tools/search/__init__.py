"""olivepress search: the settings of quantization and export that hold limits on loss, size and speed."""
