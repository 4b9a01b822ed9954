"""One file per peer, named after it. A peer has `CASES`, the names of the cases it can run; `endpoint(python, graph,
row)`, how its server is started with that interpreter and asked; and whatever that command runs, with the peer's own
packages, which are pinned in `requirements/<peer>.txt`, imported only there.
"""
