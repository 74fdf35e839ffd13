"""What the programs of `make bench` share: a server, a command line, a report."""
