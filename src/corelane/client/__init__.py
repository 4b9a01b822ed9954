"""A typed client of a running server: `from corelane.client import Client`. It imports no server, torch or runtime."""

from corelane.client.clients import AsyncClient, Client
from corelane.client.retry import RetryBudget

__all__ = ["AsyncClient", "Client", "RetryBudget"]
