"""Processes that a benchmark starts."""
