"""The producing half: from a model's loop into the log."""
