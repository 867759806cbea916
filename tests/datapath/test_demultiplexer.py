"""ESP in UDP and native ESP told apart by SPI, in the kernel."""

from __future__ import annotations

import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from appliance.datapath import cbpf, filters, sockets
from appliance.datapath.cbpf import Program
from appliance.datapath.demultiplexer import Demultiplexer
from appliance.datapath.filters import Owner, Split
from appliance.datapath.ingress import Ingress, open_ingress
from appliance.reasons import Reason, Refusal
from tests.datapath.pair import OUTER, inside, two_hosts
from tests.lab.lab import Lab
from tests.lab.namespace import Namespace, why_not

network = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
SPIS = st.integers(0x100, 0xFFFF_FFFF)
OWNERS = st.dictionaries(SPIS, st.sampled_from(Owner), max_size=600)
TO = {Owner.SOFT: 1, Owner.KERNEL: 2}
VERSIONS = pytest.mark.parametrize("version", [4, 6], ids=["IPv4", "IPv6"])


def verdict(program: Program, data: bytes) -> int:
    """What the kernel's machine makes of a program."""
    accumulator = index = at = 0
    while True:
        code, yes, no, k = program[at]
        at += 1
        if code == cbpf.RETURN:
            return k
        if code == cbpf.JUMP:
            at += k
        elif code == cbpf.IF_EQUAL:
            at += yes if accumulator == k else no
        elif code == cbpf.IF_AT_LEAST:
            at += yes if accumulator >= k else no
        elif code == cbpf.LENGTH:
            accumulator = len(data)
        elif code == cbpf.HEADER_LENGTH:
            if k >= len(data):
                return 0
            index = 4 * (data[k] & 15)
        else:
            start = k + (index if code == cbpf.WORD_AT_X else 0)
            if start + 4 > len(data):
                return 0
            accumulator = int.from_bytes(data[start : start + 4])


def esp(spi: int, payload: bytes = b"in the clear of it") -> bytes:
    return struct.pack("!II", spi, 1) + payload


def assert_well_formed(program: Program) -> None:
    """What the kernel asks of a program (bpf_check_classic)."""
    assert 0 < len(program) <= cbpf.MOST_INSTRUCTIONS
    assert program[-1][0] == cbpf.RETURN
    for at, (code, yes, no, k) in enumerate(program):
        assert 0 <= yes <= 255
        assert 0 <= no <= 255
        assert 0 <= k <= 0xFFFF_FFFF
        assert at + 1 + max(yes, no, k if code == cbpf.JUMP else 0) <= len(program)


def near(spis: Sequence[int]) -> set[int]:
    return {near & 0xFFFF_FFFF or 1 for spi in spis for near in (spi - 1, spi, spi + 1)}


@given(
    owners=OWNERS,
    strangers=st.sets(SPIS, max_size=20),
    rest=st.sampled_from(Owner),
    bucket=st.sampled_from((1, 8, 128)),
)
@example({}, {0x100, 0xFFFF_FFFF}, Owner.SOFT, 8)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_the_programs_verdict_is_the_tables_for_any_spis(
    owners: Mapping[int, Owner], strangers: set[int], rest: Owner, bucket: int
) -> None:
    listed = [spi for spi, owner in owners.items() if owner is not rest]
    split = Split(frozenset(listed), rest)
    in_udp = filters.encapsulated(split, bucket)
    assert_well_formed(in_udp)
    natives = {version: filters.native(split, version, bucket) for version in (4, 6)}
    options = b"\x46" + bytes(23)
    for spi in {*owners, *strangers, *near(listed[:20])}:
        owner = owners.get(spi, rest)
        assert split.owner(spi) is owner
        assert verdict(in_udp, esp(spi)) == TO[owner]
        for version, header in ((4, b"\x45" + bytes(19)), (4, options), (6, b"")):
            assert bool(verdict(natives[version], header + esp(spi))) == (owner is Owner.SOFT)


@given(owners=OWNERS, data=st.binary(max_size=40))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_ike_keepalives_and_stumps_are_never_esp_rfc3948_2_2(owners: Mapping[int, Owner], data: bytes) -> None:
    for rest in Owner:
        split = Split(frozenset(spi for spi, owner in owners.items() if owner is not rest), rest)
        program = filters.encapsulated(split)
        assert verdict(program, b"\0\0\0\0" + data) == filters.TO_IKE
        assert verdict(program, b"\xff") == filters.TO_IKE
        assert verdict(program, esp(0x1001)[:11]) == filters.TO_IKE


def test_without_sas_of_the_kernel_the_program_is_six_instructions_and_all_esp_is_soft() -> None:
    assert len(filters.encapsulated(filters.ALL_SOFT)) == 6


def test_a_search_takes_few_steps_and_a_long_list_still_fits() -> None:
    for size, bucket in ((2600, 8), (3800, 128)):
        spis = list(range(0x1000, 0x1000 + size * 7, 7))
        program = filters.encapsulated(Split(frozenset(spis)), bucket)
        assert_well_formed(program)
        assert all(verdict(program, esp(spi)) == 2 for spi in spis)
        assert all(verdict(program, esp(spi + 1)) == 1 for spi in spis)


# With real sockets


@contextmanager
def opened(version: int) -> Iterator[tuple[Namespace, Ingress, Namespace]]:
    """An ingress at the left end of a link, and who sends from the right one."""
    with Lab() as lab:
        left, right = two_hosts(lab)
        with inside(left):
            ingress = open_ingress(ip_address(OUTER[version][0]))
            try:
                ingress.ike.sendto(b"finds the neighbour", (OUTER[version][1], 9))
                time.sleep(0.1)
                yield left, ingress, right
            finally:
                ingress.close()


@pytest.fixture
def plain_kernel_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel would take in is left in its socket, to be read."""
    monkeypatch.setattr(sockets, "decapsulate", lambda sock: None)


def waiting(sock: socket.socket | None, *, skip: int = 0) -> list[int]:
    """The first words of what waits in a socket."""
    found: list[int] = []
    assert sock is not None
    time.sleep(0.01)
    while True:
        try:
            data = sock.recv(65535)
        except BlockingIOError:
            return found
        found.append(int.from_bytes(data[skip : skip + 4]))


@contextmanager
def sender(namespace: Namespace, version: int) -> Iterator[socket.socket]:
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with namespace.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((OUTER[version][1], 4500))
        sock.connect((OUTER[version][0], 4500))
        yield sock


@network
@VERSIONS
@pytest.mark.usefixtures("plain_kernel_socket")
def test_each_datagram_reaches_the_one_of_three_sockets_whose_it_is(version: int) -> None:
    with opened(version) as (_, ingress, right), sender(right, version) as sock:
        table = Demultiplexer([ingress])

        def sent(*messages: bytes) -> tuple[list[int], list[int], list[int]]:
            for message in messages:
                sock.send(message)
            third = waiting(ingress.esp_kernel) if ingress.esp_kernel is not None else []
            return waiting(ingress.natt), waiting(ingress.esp), third

        ours, theirs, nobodys, ike = esp(0x1001), esp(0x1002), esp(0xFFFF_0001), b"\0\0\0\0an IKE message"
        everything = ours, theirs, nobodys, ike, b"\xff"
        table.claim([0x1002], Owner.KERNEL)
        assert sent(*everything) == ([0, 0xFF], [0x1001, 0x1002, 0xFFFF_0001], [])
        table.open_kernel()
        assert sent(*everything) == ([0, 0xFF], [0x1001, 0xFFFF_0001], [0x1002])
        table.claim([0x1001], Owner.KERNEL)
        table.claim([0x1002], Owner.SOFT)
        assert sent(*everything) == ([0, 0xFF], [0x1002, 0xFFFF_0001], [0x1001])
        table.readers(soft=False)
        assert sent(*everything) == ([0, 0xFF], [], [0x1001, 0x1002, 0xFFFF_0001])
        table.readers(soft=True)
        table.release([0x1001])
        assert sent(*everything) == ([0, 0xFF], [0x1001, 0x1002, 0xFFFF_0001], [])
        table.claim([0x1001, 0x1002], Owner.KERNEL)
        table.close_kernel()
        assert sent(*everything) == ([0, 0xFF], [0x1001, 0x1002, 0xFFFF_0001], [])
        assert table.owner(0x1001) is Owner.SOFT
        table.open_kernel()
        assert sent(*everything) == ([0, 0xFF], [0x1001, 0x1002, 0xFFFF_0001], []), "claims went with the datapath"


@network
@VERSIONS
@pytest.mark.usefixtures("plain_kernel_socket")
def test_the_raw_socket_has_no_native_esp_of_the_kernel_nor_any_without_a_reader(version: int) -> None:
    with opened(version) as (_, ingress, right):
        table = Demultiplexer([ingress])
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        skip = 20 if version == 4 else 0
        with right.socket(family, socket.SOCK_RAW, socket.IPPROTO_ESP) as sock:
            sock.connect((OUTER[version][0], 0))

            def sent() -> list[int]:
                for spi in (0x1001, 0x1002, 0xFFFF_0001):
                    sock.send(esp(spi))
                return waiting(ingress.raw, skip=skip)

            assert sent() == [0x1001, 0x1002, 0xFFFF_0001]
            table.open_kernel()
            table.claim([0x1002], Owner.KERNEL)
            assert sent() == [0x1001, 0xFFFF_0001]
            if version == 4:
                # Four bytes of options (RFC 791): the SPI stands behind them.
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, b"\x01\x01\x01\x00")
                skip = 24
                assert sent() == [0x1001, 0xFFFF_0001]
            sock.send(esp(0x1001))
            time.sleep(0.01)
            table.readers(soft=False)
            assert sent() == []
            table.readers(soft=True)
            assert sent() == [0x1001, 0xFFFF_0001]
            table.close_kernel()
            assert sent() == [0x1001, 0x1002, 0xFFFF_0001]


@network
@pytest.mark.usefixtures("plain_kernel_socket")
def test_the_longer_list_is_the_rest_and_what_fits_neither_way_is_refused_and_changes_nothing() -> None:
    with opened(4) as (_, ingress, right), sender(right, 4) as sock:
        table = Demultiplexer([ingress])
        table.open_kernel()
        many, more, ours = range(0x10000, 0x20000, 4), range(0x20000, 0x30000, 4), range(0x30000, 0x31000, 4)
        table.claim(many, Owner.KERNEL)
        assert table.owner(0x7777) is Owner.KERNEL, "sixteen thousand fit no program: the rest is theirs"
        table.claim(ours, Owner.SOFT)
        assert {table.owner(spi) for spi in ours} == {Owner.SOFT}
        with pytest.raises(Refusal, match=r"16384 in kernel or the 17408 in soft.*optmem_max") as refused:
            table.claim(more, Owner.SOFT)
        assert refused.value.reason is Reason.TABLE_FULL
        assert table.owner(more[0]) is Owner.KERNEL
        for spi in (many[0], ours[0]):
            sock.send(esp(spi))
        assert (waiting(ingress.esp_kernel), waiting(ingress.esp)) == ([many[0]], [ours[0]])
        table.release(many)
        table.claim(more, Owner.SOFT)
        assert table.owner(0x7777) is Owner.SOFT


@network
@pytest.mark.usefixtures("plain_kernel_socket")
def test_a_small_optmem_max_is_met_by_a_shorter_list_or_said() -> None:
    with opened(4) as (left, ingress, _):
        if not left.call(Path("/proc/sys/net/core/optmem_max").exists):
            pytest.skip("net.core.optmem_max is the machine's, not a namespace's")
        left.sysctl(core__optmem_max=10_000)
        table = Demultiplexer([ingress])
        table.open_kernel()
        table.claim(range(0x1000, 0x1100), Owner.KERNEL)
        assert table.owner(0x7777) is Owner.SOFT
        table.claim(range(0x1000, 0x2000), Owner.KERNEL)
        assert table.owner(0x7777) is Owner.KERNEL
        with pytest.raises(Refusal, match="optmem_max"):
            table.claim(range(0x2000, 0x3000), Owner.SOFT)


@network
@VERSIONS
@pytest.mark.usefixtures("plain_kernel_socket")
def test_switching_the_rest_back_and_forth_loses_no_datagram(version: int) -> None:
    with opened(version) as (_, ingress, right), sender(right, version) as sock:
        table = Demultiplexer([ingress])
        table.open_kernel()
        table.claim([0x1001], Owner.SOFT)
        table.claim([0x1002], Owner.KERNEL)
        many = range(0x10000, 0x20000, 4)
        assert ingress.esp_kernel is not None
        got: Counter[int] = Counter()
        for turn in range(40):
            for spi in (0x1001, 0x1002) * 20:
                sock.send(esp(spi))
            if turn % 2:
                table.release(many)
            else:
                table.claim(many, Owner.KERNEL)
            soft, kernel = waiting(ingress.esp), waiting(ingress.esp_kernel)
            assert (set(soft), set(kernel)) == ({0x1001}, {0x1002})
            got.update(soft + kernel)
        assert got == {0x1001: 800, 0x1002: 800}


@network
@pytest.mark.usefixtures("plain_kernel_socket")
def test_receive_offload_never_glues_sas_of_two_datapaths() -> None:
    with opened(4) as (_, ingress, right), sender(right, 4) as sock:
        table = Demultiplexer([ingress])
        # A UDP_SEGMENT burst reaches the other end of a veth in one, as receive offload would make it of a line's.
        burst = b"".join(esp(0x1001) for _ in range(8))
        segment = [(socket.IPPROTO_UDP, 103, struct.pack("=H", len(burst) // 8))]
        sock.sendmsg([burst], segment)
        assert waiting(ingress.esp) == [0x1001]
        table.open_kernel()
        table.claim([0x1002], Owner.KERNEL)
        sock.sendmsg([burst], segment)
        assert waiting(ingress.esp) == [0x1001] * 8
        table.close_kernel()
        sock.sendmsg([burst], segment)
        assert waiting(ingress.esp) == [0x1001]


@network
def test_ike_that_the_kernel_leaves_in_its_socket_is_handed_on() -> None:
    with opened(4) as (_, ingress, right), sender(right, 4) as sock:
        table = Demultiplexer([ingress])
        try:
            table.open_kernel()
        except Refusal as refusal:
            assert refusal.reason is Reason.NO_XFRM
            pytest.skip(str(refusal))
        cbpf.choose_socket(ingress.natt, [(cbpf.RETURN, 0, 0, 2)])
        sock.send(b"\0\0\0\0an IKE message")
        time.sleep(0.01)
        assert ingress.esp_kernel is not None
        [(kind, datagram)] = ingress.receive(ingress.esp_kernel)
        assert (kind, datagram.data, datagram.destination_port) == ("ike", b"an IKE message", 4500)


@network
@VERSIONS
def test_own_sockets_bypass_the_kernels_policies_or_a_refusal_says_why_not(version: int) -> None:
    everything = "0.0.0.0/0" if version == 4 else "::/0"
    with opened(version) as (left, ingress, right), sender(right, version) as sock:
        table = Demultiplexer([ingress])
        try:
            ingress.bypass_xfrm()
            table.open_kernel()
        except Refusal as refusal:
            assert refusal.reason is Reason.NO_XFRM
            pytest.skip(str(refusal))
        ingress.bypass_xfrm()
        for direction in ("in", "out"):
            argv = ["ip", "xfrm", "policy", "add", "dir", direction, "src", everything, "dst", everything]
            left.run([*argv, "action", "block"])
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        with left.socket(family, socket.SOCK_DGRAM) as other, pytest.raises(OSError):
            other.sendto(b"", (OUTER[version][1], 9))
        for message in (b"\0\0\0\0IKE", esp(0x1001)):
            sock.send(message)
        assert (waiting(ingress.natt), waiting(ingress.esp)) == ([0], [0x1001])
        with right.socket(family, socket.SOCK_DGRAM) as peer:
            peer.settimeout(2)
            peer.bind((OUTER[version][1], 4501))
            for own in (ingress.ike, ingress.natt, ingress.esp, ingress.esp_kernel):
                assert own is not None
                own.sendto(b"x", (OUTER[version][1], 4501))
                assert peer.recv(100) == b"x"
        with right.socket(family, socket.SOCK_RAW, socket.IPPROTO_ESP) as native:
            native.settimeout(2)
            assert ingress.raw is not None
            ingress.raw.sendto(esp(0x1003), (OUTER[version][1], 0))
            assert esp(0x1003) in native.recv(100)
            native.sendto(esp(0x1004), (OUTER[version][0], 0))
            assert waiting(ingress.raw, skip=20 if version == 4 else 0) == [0x1004]
