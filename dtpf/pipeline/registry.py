"""Published models: which version of a name is current, which were before, and the way back.

`models/<name>/current.json` is the only thing that the endpoint reads; it changes by one atomic
write. `history.json` beside it lists the versions that have been current, so that one command
leads back. What was taken back stays in the store and is not made current again by itself.
"""

from collections.abc import Sequence

from dtpf.core.config import Config
from dtpf.core.errors import UserError
from dtpf.core.storage import keys
from dtpf.core.storage.receipts import utc_now
from dtpf.core.storage.store import Store


class Version(Config):
    """One published bundle.

    Attributes:
        version: first digits of the weights' sha256; the last part of the URI.
        uri: of the bundle.
        sha256: of the weights.
        published: when it became current, UTC in ISO format.
        withdrawn: when a rollback took it back; empty if none did.
    """

    version: str
    uri: str
    sha256: str
    published: str = ""
    withdrawn: str = ""


class _History(Config):
    versions: tuple[Version, ...] = ()


def current(store: Store, name: str) -> Version | None:
    """Return the version that is current, None if nothing was published under this name."""
    key = keys.current_key(name)
    if not store.exists(key):
        return None
    found = store.read_json(key)
    facts = {field: str(found[field]) for field in ("version", "uri", "sha256")}
    known = [item for item in _read(store, name) if item.version == facts["version"]]
    return known[-1] if known else Version(**facts)


def history(store: Store, name: str) -> list[Version]:
    """Return the versions that have been current, the oldest first.

    Raises:
        UserError: nothing was published under this name.
    """
    now = current(store, name)
    if now is None:
        raise UserError(
            f"{store.uri_of(keys.current_key(name))}: nothing is published under {name!r}"
        )
    known = _read(store, name)
    return known if now.version in {item.version for item in known} else [*known, now]


def make_current(store: Store, name: str, version: Version) -> None:
    """Make a published version the current one."""
    entry = version.model_copy(update={"published": utc_now(), "withdrawn": ""})
    before = history(store, name) if current(store, name) else []
    others = [item for item in before if item.version != version.version]
    # The history first: killed in between, it has a version too many, and no way back is lost.
    _write(store, name, [*others, entry])
    _point(store, name, entry)


def withdrawn(store: Store, name: str, version: str) -> str:
    """Return when a version was taken back, an empty text if it was not."""
    return next((item.withdrawn for item in _read(store, name) if item.version == version), "")


def roll_back(store: Store, name: str, to: str | None = None) -> tuple[Version, Version]:
    """Make the version before the current one current again, or the one named `to`.

    What is passed over on the way back counts as withdrawn.

    Returns:
        The version that was current and the one that is now.

    Raises:
        UserError: there is no such version to go back to.
    """
    versions = history(store, name)
    names = [item.version for item in versions]
    place = names.index(store.read_json(keys.current_key(name))["version"])
    earlier = [index for index in range(place) if not versions[index].withdrawn]
    if to is not None:
        earlier = [index for index in range(place) if versions[index].version == to]
    if not earlier:
        known = ", ".join(item.version for item in versions[:place]) or "none"
        raise UserError(
            f"models/{name}: no {'version ' + to if to else 'earlier version'} to go back to from "
            f"{versions[place].version}; earlier versions: {known}"
        )
    target = earlier[-1]
    moment = utc_now()
    marked = [
        item.model_copy(update={"withdrawn": moment}) if target < index <= place else item
        for index, item in enumerate(versions)
    ]
    marked[target] = marked[target].model_copy(update={"withdrawn": ""})
    _write(store, name, marked)
    _point(store, name, marked[target])
    return marked[place], marked[target]


def _point(store: Store, name: str, version: Version) -> None:
    facts = {"version": version.version, "uri": version.uri, "sha256": version.sha256}
    store.write_json(keys.current_key(name), {"name": name, **facts})


def _read(store: Store, name: str) -> list[Version]:
    key = keys.history_key(name)
    if not store.exists(key):
        return []
    return list(_History.parse(store.read_bytes(key), store.uri_of(key)).versions)


def _write(store: Store, name: str, versions: Sequence[Version]) -> None:
    document = _History(versions=tuple(versions))
    store.write_json(keys.history_key(name), document.as_dict())
