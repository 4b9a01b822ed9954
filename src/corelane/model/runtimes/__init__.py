"""Runtimes: what runs a network. One module per library, all behind `runtimes.base.Runtime`."""
