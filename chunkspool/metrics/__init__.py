"""Metrics for Prometheus: what is observed becomes counters, histograms and gauges, and is served as text.

`prometheus_client` (the extra `metrics`) is loaded by the modules that say so, and not by this one: nobody needs it who
has no metrics.
"""
