"""Strict configs, overrides, fingerprints."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtpf.core.config import Config, apply_overrides, fingerprint
from dtpf.core.errors import UserError


class Inner(Config):
    rate: float = 0.1
    sizes: tuple[int, int] = (1, 2)


class Outer(Config):
    name: str = "x"
    steps: int = 3
    inner: Inner = Inner()


def test_overrides_reach_nested_fields():
    changed = apply_overrides(Outer(), ["inner.rate=1e-4", "name=night", "inner.sizes=[3,4]"])
    assert changed == Outer(name="night", inner=Inner(rate=1e-4, sizes=(3, 4)))


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("inner.rat=1", ["inner.rat", "did you mean 'rate'"]),
        ("zzz=1", ["zzz", "known here"]),
        ("name.more=1", ["name.more"]),
        ("steps=many", ["steps", "integer", "many"]),
        ("steps=1.5", ["steps", "1.5"]),
        ("inner.rate=true", ["inner.rate"]),
        ("steps", ["KEY=VALUE"]),
    ],
)
def test_wrong_overrides_name_the_key_and_the_remedy(setting, words):
    with pytest.raises(UserError) as caught:
        apply_overrides(Outer(), [setting])
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_unknown_keys_of_a_document_are_errors():
    with pytest.raises(UserError, match="doc: extra: Extra inputs"):
        Outer.parse({"extra": 1}, "doc")


def test_configs_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Outer().steps = 4


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.none()))
def test_fingerprint_ignores_the_order_of_keys(document):
    assert fingerprint(document) == fingerprint(dict(reversed(document.items())))


def test_fingerprint_tells_values_apart():
    prints = {fingerprint(Outer(steps=steps)) for steps in range(50)}
    assert len(prints) == 50
    assert fingerprint("ab", "c") != fingerprint("a", "bc")
