"""Measures what the documentation claims, on the machine at hand."""
