"""What a killed daemon left in the kernel, taken away for one that does without: it would keep what it takes.

    python -m appliance.datapath.kernel.leftovers

A process of its own, since the daemon has no other need of all that it imports. It says what it did, or why it did not,
as a line of JSON.
"""

from __future__ import annotations

import errno
import json
from contextlib import closing

from appliance.datapath.kernel.enforcement import delete
from appliance.datapath.kernel.interfaces import Interfaces
from appliance.datapath.kernel.options import KernelOptions
from appliance.datapath.kernel.requester import refusal_of
from appliance.datapath.kernel.steering import KernelSteering
from appliance.datapath.kernel.survivors import BLOCK, PASS, Survivors
from appliance.datapath.kernel.xfrm import StateId, XfrmSocket, requests
from appliance.process.hardening import harden
from appliance.reasons import Refusal

_GONE = errno.ESRCH, errno.ENOENT


def main() -> int:
    """Take it away in this process's network namespace."""
    harden()  # lists of SAs have their keys
    try:
        said = {"done": remove_leftovers()}
    except Refusal as refusal:
        said = {"reason": refusal.reason.name, "detail": refusal.detail}
    print(json.dumps(said))
    return 0


def remove_leftovers() -> str:
    """Take away SAs, policies, a default of "block", tunnel interfaces, rules and routes; in the thread's namespace.

    Returns what there was in words, "" for nothing. A second call finds nothing. Raises Refusal: NO_PRIVILEGE and the
    kernel's others.
    """
    words = _remove_from_xfrm()
    with closing(Interfaces()) as interfaces:
        words += interfaces.apply(())
    with closing(KernelSteering(KernelOptions())) as steering:
        steering.remove()
    return "; ".join(words)


def _remove_from_xfrm() -> list[str]:
    try:
        socket = XfrmSocket()
    except OSError:
        return []  # no XFRM in this kernel: nothing can have been left there
    with socket:
        try:
            left = Survivors(socket.states(), socket.policies())
            batch = [requests.delete_state(StateId.of(state)) for state in left.states]
            batch += [delete(policy) for policy in left.every_policy]
            blocked = left.blocked and socket.do(requests.get_defaults()) == BLOCK
            if blocked:
                batch.append(requests.set_defaults(PASS))
            for answer in socket.batch(batch):
                if answer.error is not None and answer.error.errno not in _GONE:
                    raise answer.error
        except OSError as error:
            raise refusal_of(error, "removing what an earlier daemon left in the kernel") from error
    if not batch:
        return []
    passing = ", and let packets pass that no policy is for" if blocked else ""
    return [f"removed {len(left.states)} SAs and {len(left.every_policy)} policies{passing}"]


if __name__ == "__main__":
    raise SystemExit(main())
