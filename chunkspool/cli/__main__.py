"""`python -m chunkspool.cli`: the command line without its script."""

from chunkspool.cli import main

main()
