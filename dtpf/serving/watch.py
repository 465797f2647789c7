"""The document that names the model to serve, and a watcher that notices a new one."""

import logging
import threading
from collections.abc import Callable, Mapping

from dtpf.core.config import Config
from dtpf.core.errors import UserError
from dtpf.core.storage.keys import current_key
from dtpf.core.storage.store import Store
from dtpf.serving.predictor import Predictor

_logger = logging.getLogger(__name__)


class CurrentModel(Config):
    """The document `models/<name>/current.json`: which bundle is served."""

    name: str
    version: str
    uri: str
    sha256: str


def read_current(store_uri: str, name: str) -> CurrentModel:
    """Read which bundle the store says is served under a name."""
    store, key = Store(store_uri), current_key(name)
    return CurrentModel.parse(store.read_bytes(key), store.uri_of(key))


class Watcher:
    """Asks the store for new winners and has them loaded, in a thread of its own.

    Nothing that goes wrong ends it or touches what is served: a store that is away, a damaged
    document, a bundle that cannot be used. Each is logged once, until it changes.
    """

    def __init__(
        self,
        predictors: Mapping[str, Predictor],
        read: Callable[[str], CurrentModel],
        seconds: float,
    ) -> None:
        """Watch `read(name)` for each predictor, every `seconds`."""
        self._predictors, self._read, self._seconds = predictors, read, seconds
        self._complaints: dict[str, str] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    @property
    def running(self) -> bool:
        """Whether it watches."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End; returns when the thread has ended."""
        self._end.set()
        if self.running:
            self._thread.join(timeout=10)

    def look(self) -> None:
        """Ask once for each model, and load what is new."""
        for name, predictor in self._predictors.items():
            try:
                self._follow(predictor, self._read(name))
                self._complaints.pop(name, None)
            except Exception as error:
                self._complain(name, error)

    def _run(self) -> None:
        while not self._end.wait(self._seconds):
            self.look()

    def _follow(self, predictor: Predictor, wanted: CurrentModel) -> None:
        served = predictor.info if predictor.ready else {}
        if (served.get("uri"), served.get("sha256")) == (wanted.uri, wanted.sha256):
            return
        predictor.load(wanted.uri, wanted.sha256)
        _logger.info("model %s: changed over to version %s", wanted.name, wanted.version)

    def _complain(self, name: str, error: Exception) -> None:
        text = str(error)
        if self._complaints.get(name) != text:
            expected = isinstance(error, UserError)
            _logger.warning("model %s stays as it is: %s", name, text, exc_info=not expected)
        self._complaints[name] = text
