"""Data sets: rows, calibration blocks, templates."""
