"""One file per peer, named after it, with `run(case, inputs)` as in `ours.py`; which cases it runs is said in
`cases.py`. What needs packages of its own is imported inside `run` and pinned in `requirements/<peer>.txt`.
"""
