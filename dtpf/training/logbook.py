"""TensorBoard events of a run, written to local disk and copied to the store."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from dtpf.core.storage.store import Store


class Logbook:
    """Collects scalars and pictures; `publish` makes them visible in the store.

    TensorBoard reads folders, so a viewer points it at the stage's `tensorboard` prefix. A resumed
    run adds a file that starts at its step: TensorBoard then drops what an abandoned try logged.
    """

    def __init__(self, store: Store, prefix: str, first_step: int) -> None:
        self._store = store
        self._prefix = prefix
        self._folder = tempfile.TemporaryDirectory(prefix="dtpf-tensorboard-")
        self._writer = SummaryWriter(self._folder.name, purge_step=first_step)

    def scalars(self, group: str, values: Mapping[str, float], step: int) -> None:
        """Add one value to each curve `group/name`."""
        for name, value in values.items():
            self._writer.add_scalar(f"{group}/{name}", value, step)

    def picture(self, name: str, image_3HW: Tensor, step: int) -> None:
        """Add one RGB picture in [0, 1]."""
        self._writer.add_image(name, image_3HW, step)

    def publish(self) -> None:
        """Copy the event files to the store."""
        self._writer.flush()
        for path in Path(self._folder.name).iterdir():
            self._store.write_bytes(f"{self._prefix}/{path.name}", path.read_bytes())

    def close(self) -> None:
        """Publish and remove the local copy."""
        self._writer.close()
        self.publish()
        self._folder.cleanup()
