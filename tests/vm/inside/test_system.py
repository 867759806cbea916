"""Two of ours on the kernel datapath: what `tests/system` has for the soft datapath is held to here as well.

Not here: the first packet of an on-demand child, which the kernel drops, and rekeys by packets under TCP, since the
kernel counts before it cuts into segments.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab import config
from tests.lab.lab import Lab
from tests.lab.topology import SiteToSite
from tests.system.conftest import lab, nat_sites, sites  # noqa: F401 - fixtures
from tests.system.duo import Duo
from tests.system.test_fail_closed import (  # noqa: F401 - held to with the datapath below
    test_bypass_and_discard_policies_are_ordered,
    test_nothing_leaks_from_start_to_stop,
    test_nothing_leaks_to_the_default_route_when_the_local_link_goes_and_the_daemon_stops,
    test_nothing_leaks_when_killed_while_rekeying,
    test_nothing_leaks_when_the_daemon_is_killed,
    test_own_packets_never_enter_a_tunnel_for_everything,
    test_plain_packets_where_protected_ones_are_due_are_dropped,
    test_the_gateway_to_the_internet_sends_on_by_its_default_route,
    test_what_came_out_of_a_tunnel_does_not_leave_by_a_default_route,
)
from tests.system.test_main_job import (  # noqa: F401
    test_a_stopped_gateway_deletes_its_sas_rfc7296_1_4_1,
    test_child_and_ike_rekeys_under_load_lose_nothing_rfc7296_2_8,
    test_cut_and_repaired,
    test_ipv6_outside_with_a_small_mtu_on_the_way,
    test_the_path_mtu_is_learnt_and_told_rfc4301_8_2,
)
from tests.system.test_modes import (  # noqa: F401
    test_behind_a_nat_with_keepalives_and_a_changed_mapping_rfc7296_2_23,
    test_esn_and_ciphers,
    test_fragmented_packets_cross,
    test_many_children_carry_their_own_traffic,
    test_ports_and_protocols_in_selectors,
    test_transport_mode_between_two_hosts,
    test_transport_mode_ipv6,
    test_udp_encapsulation_on_request,
)
from tests.system.test_reload import (  # noqa: F401
    test_a_new_child_comes_and_goes_beside_the_old_one,
    test_adding_and_removing_one_connection_does_not_disturb_the_other,
    test_an_unchanged_file_changes_nothing,
)


@pytest.fixture(autouse=True, scope="module")
def kernel() -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setattr(config, "ORDER", ["kernel"])
    yield
    patch.undo()


@pytest.fixture(scope="module")
def shared(kernel: None) -> Iterator[Duo]:
    with Lab() as made:
        yield Duo(SiteToSite(made)).start()
