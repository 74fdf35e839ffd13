"""`python -m chunkspool.cli`: the command line where its script is not on PATH."""

from chunkspool.cli import main

main()
