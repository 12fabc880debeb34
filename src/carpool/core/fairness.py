"""Weighted fairness between tenants by virtual counters.

Each tenant has a counter of the service that it received, divided by its weight; who has least goes next. A tenant that
comes back after a pause starts level with those that are being served, so that idling saves up nothing.

Source: the idea is start-time fair queueing (Goyal, Vin, Cheng 1996), as the Virtual Token Counter (Sheng et al. 2024,
"Fairness in Serving Large Language Models") applies it to batches.
"""

from collections.abc import Mapping


class FairShares:
    """The service that each tenant has had, in tokens over weight."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = weights
        self._served: dict[str, float] = {}
        self._level = 0.0  # the highest counter of a tenant at the moment when it was served ("virtual time")

    def set_weights(self, weights: Mapping[str, float]) -> None:
        """Divide what is served from now on by other weights; the service that was had stays counted as it was."""
        self._weights = weights

    def weight(self, tenant: str) -> float:
        """Return the tenant's weight; 1 where none was given."""
        return self._weights.get(tenant, 1.0)

    def served(self, tenant: str) -> float:
        """Return the tenant's counter."""
        return self._served.get(tenant, 0.0)

    def close_accounts(self) -> None:
        """Forget all service: nobody waits, so old accounts mean nothing, and need not be kept."""
        self._served.clear()
        self._level = 0.0

    def activate(self, tenant: str) -> None:
        """Lift a tenant that starts to wait to the level of those that are being served."""
        self.lift(tenant, self._level)

    def lift(self, tenant: str, level: float) -> None:
        """Let a tenant have had so much service at least."""
        if self.served(tenant) < level:
            self._served[tenant] = level

    def charge(self, tenant: str, tokens: float) -> None:
        """Count `tokens` of service to the tenant."""
        served = self.served(tenant)
        self._level = max(self._level, served)
        self._served[tenant] = served + tokens / self.weight(tenant)


class StepShares:
    """The service that tenants have had of an engine that works in steps.

    A sequence that generates gets one token a step, so that what its tenant has had is known without counting: it is
    computed when somebody asks, and costs nothing in between.

    >>> shares = StepShares({"a": 2.0})
    >>> shares.generates("a", 3)
    >>> shares.step()
    >>> shares.step()
    >>> shares.served("a")
    3.0
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._shares = FairShares(weights)
        self._generating: dict[str, tuple[int, int]] = {}  # by tenant: how many sequences, and since which step
        self._num_steps = 0

    def weight(self, tenant: str) -> float:
        """Return the tenant's weight."""
        return self._shares.weight(tenant)

    def served(self, tenant: str) -> float:
        """Return the tenant's counter."""
        count, since = self._generating.get(tenant, (0, 0))
        return self._shares.served(tenant) + count * (self._num_steps - since) / self._shares.weight(tenant)

    def step(self) -> None:
        """Count a token to every sequence that generates."""
        self._num_steps += 1

    def generates(self, tenant: str, change: int) -> None:
        """Take note that so many more of a tenant's sequences generate from now on, or fewer."""
        count, since = self._generating.get(tenant, (0, 0))
        if count:
            self._shares.charge(tenant, count * (self._num_steps - since))
        if count + change:
            self._generating[tenant] = (count + change, self._num_steps)
        else:
            del self._generating[tenant]

    def charge(self, tenant: str, tokens: float) -> None:
        """Count `tokens` of service to the tenant, beside those generated."""
        self._shares.charge(tenant, tokens)

    def lift(self, tenant: str, level: float) -> None:
        """Let a tenant have had so much service at least."""
        count, since = self._generating.get(tenant, (0, 0))
        since_then = count * (self._num_steps - since) / self.weight(tenant)
        self._shares.lift(tenant, level - since_then)

    def close_accounts(self) -> None:
        """Forget all service: nobody waits or runs."""
        assert not self._generating
        self._shares.close_accounts()
