"""Find the models that fit a latency or memory budget on this machine.

Owns candidates, cost estimates and short benchmarks. Does not own trained models.
"""
