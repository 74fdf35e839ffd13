"""Measures what the documentation claims, on the current machine."""
