"""What `make demo` needs besides the library: its processes, and how they are put together."""
