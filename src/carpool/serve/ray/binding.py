"""Where a replica listens: on the address of its machine within the cluster, in place of every one that it has."""

from __future__ import annotations

from typing import Any

_EVERYWHERE = "[::]"


def listen_within_the_cluster() -> None:
    """Have the replica of this process listen on its machine's own address; called before it begins to listen.

    Each replica of Ray Serve has a port for the calls of other replicas, which it unpickles: whoever reaches that port
    can run code. Ray Serve 2.60 opens it on every interface, and has no setting for that. On a cluster of one machine,
    which is on loopback, it is then reached from that machine alone.
    """
    import ray
    from ray.serve._private import replica

    open_port: Any = replica.add_port_to_grpc_server  # type: ignore[attr-defined]
    util: Any = ray.util  # has types in part only
    host = util.get_node_ip_address()
    own = f"[{host}]" if ":" in host else host

    def open_own(server: Any, address: str, *rest: Any) -> Any:
        return open_port(server, address.replace(_EVERYWHERE, own), *rest)

    replica.add_port_to_grpc_server = open_own  # type: ignore[attr-defined]
