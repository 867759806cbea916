"""Keys show nowhere, and wiping the request and the caller's key leaves none of ours behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from appliance.datapath.kernel.xfrm import (
    Aead,
    Auth,
    Crypt,
    DeletedState,
    Expire,
    State,
    StateId,
    messages,
    parse,
    requests,
    wipe,
)

from .meanings import A, B

SECRET = b"Sesame, open wide"
PACKAGE = Path(messages.__file__).parent


def state(key: bytes | bytearray) -> State:
    return State(
        source=A,
        destination=B,
        spi=1,
        aead=Aead("a", key),
        crypt=Crypt("c", key),
        auth=Auth("h", key, 96),
        comp=Crypt("z", key),
    )


@pytest.mark.parametrize("form", [repr, str, "{}".format])
def test_values_do_not_show_keys(form: object) -> None:
    assert callable(form)
    one = state(SECRET)
    for value in (
        one,
        Expire(one, True),
        DeletedState(StateId.of(one), one),
        parse(requests.new_state(one), keys=True),
    ):
        assert "Sesame" not in form(value)
        assert SECRET.hex() not in form(value)


def test_nlmsg_messages_do_not_show_keys_before_or_after_coding() -> None:
    (decoded,) = messages.decode(requests.new_state(state(SECRET)))
    built = messages.NewSa()
    built["attrs"] = [["XFRMA_ALG_AEAD", {"alg_name": b"a", "alg_key": SECRET}]]
    for message in (built, decoded):
        assert "Sesame" not in repr(message)
        assert "Sesame" not in str(message["attrs"][0]) or message is built
    built.encode()
    assert SECRET in bytes(built.data)
    assert "Sesame" not in repr(built)
    assert "Sesame" not in str(built)
    assert "Sesame" not in str(built["attrs"])
    built.wipe()
    assert SECRET not in bytes(built.data)


def test_a_key_is_the_callers_own_object_until_it_is_in_the_request() -> None:
    key = bytearray(SECRET)
    one = state(key)
    assert one.aead is not None
    assert one.aead.key is key
    request = requests.new_state(one)
    assert request.count(SECRET) == 4
    wipe(key)
    wipe(request)
    assert not any(request)
    assert one.aead.key == bytes(len(SECRET))


def test_the_keys_of_a_message_are_read_on_demand_into_objects_that_can_be_wiped() -> None:
    request = requests.new_state(state(SECRET))
    silent = parse(request).body
    assert isinstance(silent, State)
    assert silent.aead is not None
    assert silent.aead.key == b""
    spoken = parse(request, keys=True).body
    assert isinstance(spoken, State)
    assert spoken.aead is not None
    assert isinstance(spoken.aead.key, bytearray)
    wipe(spoken.aead.key)
    assert request.count(SECRET) == 4


def test_wiping_key_and_request_leaves_no_copy_in_the_process() -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"{__package__}.memory_of_keys"],
        capture_output=True,
        text=True,
        cwd=PACKAGE.parents[3],
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == ["101", "0"], done.stderr


def test_nothing_but_the_nlmsg_classes_imports_pyroute2_and_nothing_imports_the_rest_of_the_product() -> None:
    script = """
import sys
import appliance.datapath.kernel.xfrm
print(sorted({name.partition(".")[0] for name in sys.modules} & {"pyroute2", "asyncio", "logging", "ssl"}))
import appliance.datapath.kernel.xfrm.messages
ours = [name for name in sys.modules if name.startswith("appliance.")]
print(sorted(name for name in ours if not name.startswith("appliance.datapath.kernel.xfrm")))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == ["[]", "['appliance.datapath', 'appliance.datapath.kernel']"]
    for file in PACKAGE.glob("*.py"):
        text = file.read_text()
        assert "appliance" not in text, file
        assert ("pyroute2.netlink" in text) == (file.name == "messages.py"), file
