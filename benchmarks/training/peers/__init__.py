"""One file per peer, named after it. A peer has `CASES`, the names of the cases it can run, and `run(case, work)`,
which trains and gives the examples per second of every epoch. What needs its own packages is imported inside `run` and
pinned in `requirements/<peer>.txt`.
"""
