"""The figures of `python -m bench.append`, one per file."""
