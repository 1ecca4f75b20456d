"""Work that is spread over workers, each with a replica of what it needs; nothing here knows what the work is."""

from amc.cluster.executor import Executor, InProcess, OpenExecutor, Replica, Watch, in_process

__all__ = ["Executor", "InProcess", "OpenExecutor", "Replica", "Watch", "in_process"]
