"""What a spool does, as generators without I/O: `Spool` and `AsyncSpool` drive the same ones."""
