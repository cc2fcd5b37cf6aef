"""The trials of a run on a Ray cluster through Ray Tune. The only folder that imports Ray.

Tune is asked for resources, actors and their reuse. Order, dependencies and retries are the
frontier's: a searcher asks it for what is ready, and Tune itself retries nothing.
"""

from orchestrator.launch.cluster import Cluster, connect  # before anything that imports Ray
from orchestrator.launch.launching import launch
from orchestrator.launch.workers import Worker

__all__ = ["Cluster", "Worker", "connect", "launch"]
