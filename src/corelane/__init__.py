"""Corelane trains, packages, optimises, serves and monitors neural networks on CPUs.

The Python interface is `corelane.app` (`from corelane.app import train, package, load`): the names of the rooms `train`
and `serve` are taken here. Importing `corelane` loads nothing else.
"""

__version__ = "0.1.0"
