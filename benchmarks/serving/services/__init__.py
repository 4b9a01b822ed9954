"""One file per peer whose libraries start processes of their own and import a service by its name there: what its
server runs, with the peer's own packages. `peers/<peer>.py` says how it is started and asked.
"""
