"""`dtpf doctor`: is this machine fit for a run."""

import json
import socket

from dtpf.core.storage.uri import normalise_uri
from dtpf.doctor.findings import any_failed, as_json, as_text
from dtpf.doctor.machine import check_machine


def look(
    store: str | None, temp: str | None, exchange: bool, seconds: float, in_json: bool
) -> bool:
    """Look at this machine and print what was found; returns whether something failed.

    Raises:
        UserError: a store of a scheme that is not known.
    """
    uri = None if store is None else normalise_uri(store)
    places = {socket.gethostname(): check_machine(uri, temp, exchange, seconds)}
    print(json.dumps(as_json(places), indent=2) if in_json else as_text(places))
    return any_failed(places)
