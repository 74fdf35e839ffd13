"""`make bench`, the producing half: `python -m bench.append`; exit code 1 if a figure misses its target."""

from __future__ import annotations

import sys

from bench.figures import batches, memory, observer, one_call, stops, text_call
from bench.harness.run import Measurements, run

MEASUREMENTS: Measurements = {
    "one-call": one_call.measure,
    "batches": batches.measure,
    "text": text_call.measure,
    "memory": memory.measure,
    "stops": stops.measure,
    "observer": observer.measure,
}

if __name__ == "__main__":
    sys.exit(run(MEASUREMENTS, __doc__))
