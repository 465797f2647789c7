"""TensorBoard's HParams view: settings and results of each trial, beside its curves.

Point TensorBoard at the `trials` folder of a search.
"""

import json
import math
import tempfile
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from dtpf.core.storage.store import Store
from dtpf.tuning.trials import Trial, trial_prefix

# One fixed name: what is written again replaces what was there.
_FILE = "tensorboard/events.out.tfevents.0000000000.hparams"


def write_hparams(store: Store, root: str, trial: Trial) -> None:
    """Write a trial that has ended into its folder of events.

    Args:
        store: where the search lies.
        root: prefix of the search.
        trial: with its results; those that are missing are left out.
    """
    results = {
        "retention": trial.retention,
        "parameters": trial.parameters,
        "latency_ms": trial.latency_ms,
        "seconds": trial.seconds,
        "steps": trial.steps,
    }
    metrics = {
        f"trial/{name}": float(value)
        for name, value in results.items()
        if value is not None and math.isfinite(value)
    }
    settings = {name: _plain(value) for name, value in trial.setting.items()}
    with tempfile.TemporaryDirectory(prefix="dtpf-hparams-") as folder:
        writer = SummaryWriter(folder)
        events = writer._get_file_writer()  # add_hparams would open a folder of its own
        # TensorBoard takes its columns from any one run: all are named, also where one is missing.
        columns = dict.fromkeys((f"trial/{name}" for name in results), 0.0)
        for summary in hparams({**settings, "status": trial.status}, columns):
            events.add_summary(summary)
        for name, value in metrics.items():
            writer.add_scalar(name, value, trial.steps)
        writer.close()
        (file,) = Path(folder).iterdir()
        store.write_bytes(f"{root}/{trial_prefix(trial.name)}/{_FILE}", file.read_bytes())


def _plain(value: object) -> bool | int | float | str:
    return value if isinstance(value, bool | int | float | str) else json.dumps(value)
