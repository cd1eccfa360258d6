"""Measurements of the product beside its rivals: python -m benchmarks.NAME --help, from the repository's root."""
