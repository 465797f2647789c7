"""What benchmarks of trainings start from: a data set in a store, indexed and captioned."""

from collections.abc import Callable

from dtpf.core.storage.store import Store
from dtpf.pipeline.config import PipelineConfig
from dtpf.pipeline.console import Console
from dtpf.pipeline.engines import in_process
from dtpf.pipeline.plan import Plan
from dtpf.pipeline.runner import run_stages
from dtpf.pipeline.stages import Context


def captioned(
    config: PipelineConfig, store: Store, write: Callable[[str], None] = lambda text: None
) -> Plan:
    """Return the plan whose first two stages are complete; their progress goes to `write`."""
    plan = Plan(config, store)
    run_stages(Context(plan, in_process(), Console(write)), ["data", "caption"])
    return plan
