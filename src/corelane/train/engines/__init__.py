"""The ways to run a step. All of them are a `Step` (`train/step.py`) and give the same training; they differ in speed.

`engine.py` picks the one that a candidate names, `compiled.py` has forward and backward compiled, `graph.py` the whole
step. What an engine cannot do rules it out in `engine.py` before anything is timed, or in `first_look.py` at its first
batch.
"""
