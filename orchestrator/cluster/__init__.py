"""The items of a run on a Ray cluster through Ray Tune. The only room that imports Ray.

Tune is asked for resources, actors and their reuse. Order, dependencies and retries belong to the
frontier; Tune itself retries nothing. May import execution and the rooms below it.
"""

from orchestrator.cluster.connection import Cluster, connect, prepare
from orchestrator.cluster.launch import launch
from orchestrator.cluster.shipment import Shipment, shipment_of

__all__ = ["Cluster", "Shipment", "connect", "launch", "prepare", "shipment_of"]
