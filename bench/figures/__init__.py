"""The figures of `python -m bench.append`, one file each."""
