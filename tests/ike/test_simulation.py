"""Engines in a simulated network: rekeys without loss, agreement after every fault, the same from the same seed."""

from __future__ import annotations

import gc
from random import Random

import pytest

from appliance.ike.connection import Endpoint, RekeyPolicy
from appliance.reasons import Reason
from tests.ike.simnet import CLEAN, ROUGH, Faults, Nat, Network, Node, agree, connection_pair, settle

SAME_INSTANT = RekeyPolicy(60.0, 20.0, 0.0)
A, B, PUBLIC = "192.0.2.1", "192.0.2.2", "203.0.113.7"


def two(seed: int, faults: Faults = CLEAN, *, both: bool = True, **settings: object) -> tuple[Network, Node, Node]:
    network = Network(seed, faults)
    of_a, of_b = connection_pair("site", A, B, **settings)  # type: ignore[arg-type]
    a = Node(network, "a", A, [of_a])
    b = Node(network, "b", B, [of_b], initiates=both)
    a.start()
    b.start(stagger=0.05)
    return network, a, b


def star(
    seed: int,
    spokes: int,
    faults: Faults,
    child_lifetime: RekeyPolicy,
    lifetime: RekeyPolicy,
    *,
    children: int = 1,
    **settings: object,
) -> tuple[Network, Node]:
    """A hub and its spokes; with every third connection both sides start it, with every third the hub does."""
    network = Network(seed, faults)
    at_hub, addresses = [], []
    for number in range(spokes):
        address = f"198.51.100.{number + 1}"
        of_hub, of_spoke = connection_pair(
            f"spoke{number}", A, address,
            number=number + 1, children=children, child_lifetime=child_lifetime, lifetime=lifetime, **settings,  # type: ignore[arg-type]
        )  # fmt: skip
        at_hub.append(of_hub)
        addresses.append((address, of_spoke))
    hub = Node(network, "hub", A, at_hub)
    for number, (address, of_spoke) in enumerate(addresses):
        Node(network, f"spoke{number}", address, [of_spoke], initiates=number % 3 != 2)
    for node in network.nodes.values():
        node.start(stagger=5.0)
    for number in range(0, spokes, 3):
        hub.sites[f"spoke{number}"].initiates = False
    return network, hub


def rekeys(network: Network) -> tuple[int, int]:
    """(Child SAs, IKE SAs) that replaced one; both ends count each."""
    nodes = network.nodes.values()
    return sum(n.counters["child-rekeys"] for n in nodes) // 2, sum(n.counters["ike-rekeys"] for n in nodes) // 2


@pytest.mark.parametrize("seed", range(6))
def test_simultaneous_rekeys_lose_no_packet_rfc7296_2_8(seed: int) -> None:
    network, a, b = two(
        seed, both=False, children=2, child_lifetime=SAME_INSTANT, lifetime=RekeyPolicy(600.0, 110.0, 0.0)
    )
    network.run(10)
    losses: list[str] = []
    network.on_loss = losses.append
    network.esp_faults = Faults(delay=(0.001, 0.5))
    network.run(4000)
    assert losses == []
    assert a.engine is not None and b.engine is not None
    assert a.engine.counters["child-rekey-collisions"] > 50
    assert a.engine.counters["ike-rekey-collisions"] + b.engine.counters["ike-rekey-collisions"] > 5
    assert a.counters["child-rekeys"] > 150
    assert network.counters["esp-taken"] > 1000
    network.on_loss = None
    settle(network, 1500)
    agree(network)


@pytest.mark.parametrize("seed", range(4))
def test_rekeys_lose_no_packet_with_any_delay_between_the_sides_rfc7296_2_8(seed: int) -> None:
    network, a, b = two(
        seed,
        both=False,
        children=2,
        child_lifetime=RekeyPolicy(60.0, 25.0, 10.0),
        lifetime=RekeyPolicy(200.0, 60.0, 60.0),
    )
    network.run(10)
    losses: list[str] = []
    network.on_loss = losses.append
    network.faults = Faults(delay=(0.001, 1.2))
    network.esp_faults = Faults(delay=(0.001, 1.2))
    network.run(6000)
    assert losses == []
    assert a.counters["ike-rekeys"] > 30 and b.counters["child-rekeys"] > 250


@pytest.mark.parametrize("seed", (0, 58))  # 58 starves where children do not make way
def test_rekeys_of_children_do_not_starve_the_rekey_of_the_ike_sa_rfc7296_2_25_2(seed: int) -> None:
    network, a, b = two(
        seed,
        both=False,
        children=2,
        child_lifetime=RekeyPolicy(60.0, 20.0, 5.0),
        lifetime=RekeyPolicy(200.0, 20.0, 10.0),
    )
    network.run(10)
    losses: list[str] = []
    network.on_loss = losses.append
    network.faults = Faults(delay=(0.001, 2.0))
    network.esp_faults = Faults(delay=(0.001, 2.0))
    network.run(4000)
    assert losses == []
    for node in (a, b):
        assert node.engine is not None
        assert node.counters["ike-rekeys"] > 18
        assert Reason.LIFETIME_OVER.name not in node.engine.counters


@pytest.mark.parametrize("seed", range(10))
def test_hours_of_faults_end_in_agreement(seed: int) -> None:
    network, _a, _b = two(
        seed,
        ROUGH,
        both=seed % 2 == 1,
        children=2,
        child_lifetime=SAME_INSTANT,
        lifetime=RekeyPolicy(300.0, 60.0, 30.0),
    )
    network.run(4 * 3600)
    settle(network, 1500)
    agree(network)


def test_twenty_thousand_rekeys_under_faults_end_in_agreement() -> None:
    faults = Faults(loss=0.03, duplicate=0.03, reorder=0.03, truncate=0.005, flip=0.005, delay=(0.005, 0.15))
    network, hub = star(1, 60, faults, RekeyPolicy(90.0, 30.0, 0.0), RekeyPolicy(400.0, 120.0, 0.0), children=2)
    network.probing = False
    while sum(rekeys(network)) < 20_500:
        network.run(100)
        assert network.now < 100_000
    of_children, of_ikes = rekeys(network)
    assert of_children > 15_000 and of_ikes > 2_000
    assert hub.engine is not None
    collisions = hub.engine.counters["child-rekey-collisions"], hub.engine.counters["ike-rekey-collisions"]
    assert collisions[0] > 500 and collisions[1] > 20
    network.probing = True
    settle(network, 1500)
    agree(network)


def restless(network: Network, hours: float, downtime: float = 60.0) -> None:
    """Crashes and silences, by chance, while time passes."""
    end = network.now + hours * 3600
    nodes = list(network.nodes.values())
    while network.now < end:
        network.run(network.random.uniform(10, 900))
        node = network.random.choice(nodes)
        match network.random.randrange(3):
            case 0:
                if node.engine is not None:
                    node.crash(network.random.uniform(0.1, downtime))
            case 1:
                network.silent.add(node.address)
                network.run(network.random.uniform(1, 300))
                network.silent.discard(node.address)
            case 2:
                for nat in network.nats:
                    nat.remap()
    network.run(downtime)


@pytest.mark.parametrize("seed", range(8))
def test_restarts_and_silence_end_in_agreement_rfc7296_2_4(seed: int) -> None:
    network, a, b = two(
        seed, ROUGH, both=seed % 2 == 1, children=2, child_lifetime=RekeyPolicy(120.0, 40.0, 0.0),
        lifetime=RekeyPolicy(900.0, 200.0, 60.0), dpd_interval=20.0, dpd_timeout=100.0,
    )  # fmt: skip
    restless(network, 6)
    settle(network, 2500)
    agree(network)
    assert a.counters["crashes"] + b.counters["crashes"] > 3
    assert a.downs[Reason.PEER_SILENT] + b.downs[Reason.PEER_SILENT] > 0


def behind_nat(seed: int, faults: Faults) -> tuple[Network, Node, Node]:
    network = Network(seed, faults)
    of_a, of_b = connection_pair(
        "site", A, B, behind_nat=True, children=2, child_lifetime=RekeyPolicy(120.0, 40.0, 0.0),
        lifetime=RekeyPolicy(900.0, 200.0, 60.0), dpd_interval=20.0, dpd_timeout=100.0,
    )  # fmt: skip
    a = Node(network, "a", A, [of_a])
    b = Node(network, "b", B, [of_b], initiates=False)
    network.nats.append(Nat(PUBLIC, [A]))
    a.start()
    b.start()
    return network, a, b


def test_nat_mapping_changes_are_followed_rfc7296_2_23() -> None:
    network, a, b = behind_nat(1, CLEAN)
    network.run(20)
    for _ in range(20):
        network.nats[0].remap()
        network.run(100)
        [view] = b.engine.ike_sas()  # type: ignore[union-attr]
        inner = Endpoint(a.address, 4500)
        assert view.remote == network.nats[0].outward(inner)
        for pair in b.pairs.values():
            if not pair.leaving:
                assert pair.outbound.encapsulation is not None
                assert pair.outbound.encapsulation.destination_port == view.remote.port
    settle(network, 1500)
    agree(network)
    assert b.counters["ike-ups"] == 1


@pytest.mark.parametrize("seed", range(4))
def test_nat_with_faults_ends_in_agreement_rfc7296_2_23(seed: int) -> None:
    network, _a, _b = behind_nat(seed, ROUGH)
    restless(network, 4)
    settle(network, 2500)
    agree(network)


def test_the_same_seed_gives_the_same_messages_states_and_times() -> None:
    def run(seed: int) -> tuple[str, list[object]]:
        network, a, b = two(
            seed, ROUGH, children=2, child_lifetime=SAME_INSTANT, lifetime=RekeyPolicy(300.0, 60.0, 30.0)
        )
        restless(network, 1)
        assert a.engine is not None and b.engine is not None
        return network.trace, [node.engine.counters for node in (a, b)] + [a.engine.ike_sas(), b.engine.child_sas()]  # type: ignore[union-attr]

    assert run(3) == run(3)
    assert run(3)[0] != run(4)[0]


# Memory


def objects() -> int:
    gc.collect()
    return len(gc.get_objects())


def test_a_thousand_connects_and_terminates_leave_nothing() -> None:
    network, a, b = two(5, both=False, children=2)
    network.probing = False
    sizes: list[int] = []
    for cycle in range(1000):
        assert network.run(60, lambda: len(b.pairs) == len(a.pairs) == 2)
        site = a.sites["site"]
        [ike_id] = site.usable
        who, number = (a, ike_id) if cycle % 2 else (b, b.sites["site"].usable[0])
        who.command(lambda engine, now, number=number: engine.delete_ike(number, now, Reason.TERMINATED))  # type: ignore[misc]
        assert network.run(60, lambda: not a.pairs and not b.pairs)
        if cycle in (99, 999):
            a.sites["site"].initiates = False
            network.run(120)
            assert a.engine is not None and b.engine is not None
            for node in (a, b):
                assert len(node.spis) == 0
                services = node.engine._services  # type: ignore[union-attr]
                assert not (services.ike_sas or services.by_spi or node.engine._scheduled)  # type: ignore[union-attr]
            sizes.append(objects())
            a.sites["site"].initiates = True
            a._check(site, 0.1)
    assert sizes[1] - sizes[0] < 300, sizes


def test_five_thousand_garbage_datagrams_leave_nothing() -> None:
    network, a, b = two(6, both=False, children=2)
    sent: list[bytes] = []
    real = network.send

    def tap(datagram: object) -> None:
        sent.append(datagram.data)  # type: ignore[attr-defined]
        real(datagram)  # type: ignore[arg-type]

    network.send = tap  # type: ignore[method-assign]
    network.run(600)
    network.send = real  # type: ignore[method-assign]
    network.probing = False
    random = Random(6)
    here, there = Endpoint(b.address, 500), Endpoint(a.address, 500)
    sizes: list[int] = []
    for number in range(6000):
        data = bytearray(random.choice(sent))
        match number % 4:
            case 0:
                data = bytearray(random.randbytes(random.randrange(400)))
            case 1:
                data = data[: random.randrange(len(data))]
            case 2:
                data[random.randrange(len(data))] ^= 1 << random.randrange(8)
            case 3:
                for _ in range(8):
                    data[random.randrange(16, len(data))] = random.randrange(256)
        b.receive(bytes(data), here, there)
        if number % 50 == 0:
            network.run(1)
        if number in (999, 5999):
            network.run(100)
            sizes.append(objects())
    assert sizes[1] - sizes[0] < 300, sizes
    settle(network, 8000)
    agree(network)


# Years


@pytest.mark.verify
@pytest.mark.parametrize("seed", range(6))
def test_a_year_of_faults_and_restarts_ends_in_agreement(seed: int) -> None:
    """Liveness checks are rare here: they would be most of the messages."""
    network, _hub = star(
        100 + seed,
        3,
        ROUGH,
        RekeyPolicy(3 * 3600.0, 1800.0, 0.0),
        RekeyPolicy(24 * 3600.0, 3600.0, 0.0 if seed % 2 else 600.0),
        children=2,
        window=1 + seed % 3,
        dpd_interval=3600.0,
        proposals="aes128gcm16-x25519" if seed % 3 == 2 else None,
    )
    for _ in range(12):
        network.run(30 * 24 * 3600)
        restless(network, 10)
    assert rekeys(network)[0] > 15_000 and rekeys(network)[1] > 900
    settle(network, 20_000)
    agree(network)


WORST = Faults(
    loss=0.25, duplicate=0.2, reorder=0.3, truncate=0.03, flip=0.03, delay=(0.005, 1.0), hold=15.0
)  # fmt: skip


@pytest.mark.verify
@pytest.mark.parametrize("faults", [ROUGH, WORST], ids=["rough", "worst"])
@pytest.mark.parametrize("window", [1, 2, 4])
@pytest.mark.parametrize(
    "settings",
    [
        {"dpd_interval": None},
        {"proposals": "aes128gcm16-x25519", "dpd_interval": 20.0, "dpd_timeout": 100.0},
        {"force_encapsulation": True, "fragment_size": 200, "dpd_interval": 20.0, "dpd_timeout": 100.0},
    ],
    ids=["no liveness checks", "pfs", "fragments"],
)
def test_many_seeds_of_faults_and_restarts_end_in_agreement(
    faults: Faults, window: int, settings: dict[str, object]
) -> None:
    for seed in range(10):
        network, _a, _b = two(
            1000 + seed,
            faults,
            both=seed % 2 == 1,
            children=2,
            child_lifetime=SAME_INSTANT,
            lifetime=RekeyPolicy(300.0, 60.0, 30.0) if seed % 3 else SAME_INSTANT,
            window=window,
            **settings,
        )
        restless(network, 3)
        settle(network, 2500)
        agree(network)
