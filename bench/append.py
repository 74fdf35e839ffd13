"""`make bench`, the producing half: `python -m bench.append`; exit code 1 if a figure misses its target."""

from __future__ import annotations

import sys

from bench.figures import batches, memory, one_call, stops, text_call
from bench.harness.run import Figures, run

FIGURES: Figures = {
    "one-call": one_call.measured,
    "batches": batches.measured,
    "text": text_call.measured,
    "memory": memory.measured,
    "stops": stops.measured,
}

if __name__ == "__main__":
    sys.exit(run(FIGURES, __doc__))
