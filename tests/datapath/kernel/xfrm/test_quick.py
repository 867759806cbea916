"""What quick() makes is what the class itself makes."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, asdict, replace
from ipaddress import IPv4Address

import pytest

from appliance.datapath.kernel.xfrm import Aead, Policy, PolicyDirection, Selector, State
from appliance.datapath.kernel.xfrm.quick import quick

STATE = {
    "source": IPv4Address("192.0.2.1"),
    "destination": IPv4Address("192.0.2.2"),
    "spi": 0x1001,
    "aead": Aead("rfc4106(gcm(aes))", bytes(20), 128),
}
POLICY = {"selector": Selector(), "direction": PolicyDirection.OUT}


@pytest.mark.parametrize(("kind", "fields"), [(State, STATE), (Policy, POLICY)], ids=["state", "policy"])
def test_it_is_equal_and_as_frozen(kind: type[State] | type[Policy], fields: dict[str, object]) -> None:
    made, usual = quick(kind)(fields), kind(**fields)  # type: ignore[arg-type]
    assert type(made) is kind and made == usual and hash(made) == hash(usual)
    assert repr(made) == repr(usual) and asdict(made) == asdict(usual)
    assert replace(made, if_id=7) == replace(usual, if_id=7)
    with pytest.raises(FrozenInstanceError):
        made.if_id = 7  # type: ignore[misc]


def test_what_is_missing_or_unknown_is_refused_as_ever() -> None:
    with pytest.raises(TypeError, match="direction"):
        quick(Policy)({"selector": Selector()})
    with pytest.raises(TypeError, match="colour"):
        quick(Policy)({**POLICY, "colour": 1})
