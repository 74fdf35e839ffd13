"""The reading half: from the log, or live, to whoever iterates."""
