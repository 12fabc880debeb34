"""Weighted fairness between tenants by virtual counters.

Each tenant has a counter of the service that it received, divided by its weight; who has least goes next. A tenant that
comes back after a pause starts level with the least of the active ones, so that idling saves up nothing.

Source: the idea is start-time fair queueing (Goyal, Vin, Cheng 1996), as the Virtual Token Counter (Sheng et al. 2024,
"Fairness in Serving Large Language Models") applies it to batches.
"""

from collections.abc import Iterable, Mapping


class FairShares:
    """The service that each tenant has had, in tokens over weight."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = weights
        self._served: dict[str, float] = {}

    def weight(self, tenant: str) -> float:
        """Return the tenant's weight; 1 where none was given."""
        return self._weights.get(tenant, 1.0)

    def served(self, tenant: str) -> float:
        """Return the tenant's counter."""
        return self._served.get(tenant, 0.0)

    def activate(self, tenant: str, active: Iterable[str]) -> None:
        """Lift a tenant that starts to wait to the least counter of those that wait already."""
        floor = min((self.served(other) for other in active), default=None)
        if floor is None:
            self._served.clear()  # nobody waits: old accounts mean nothing, and need not be kept
        elif self.served(tenant) < floor:
            self._served[tenant] = floor

    def charge(self, tenant: str, tokens: float) -> None:
        """Count `tokens` of service to the tenant."""
        self._served[tenant] = self.served(tenant) + tokens / self.weight(tenant)
