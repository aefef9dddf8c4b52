"""Measurements: speed and memory, the quality of a model, the disk."""
