"""The replay window against a set of all numbers ever received (RFC 4303 §3.4.3, appendix A; RFC 6479)."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.esp.drop import Drop
from appliance.esp.replay import ReplayWindow
from appliance.reasons import Reason, Refusal

SIZES = st.sampled_from([64, 65, 100, 128, 1000, 1024, 4096])


class Naive:
    """The definition: what is inside the window and was not received passes."""

    def __init__(self, size: int, highest: int = 0) -> None:
        self.size = size
        self.highest = highest
        self.seen: set[int] = set()

    def accepts(self, sequence: int) -> bool:
        return sequence > 0 and sequence > self.highest - self.size and sequence not in self.seen

    def receive(self, sequence: int) -> None:
        self.seen.add(sequence)
        self.highest = max(self.highest, sequence)


def passes(window: ReplayWindow, sequence: int) -> bool:
    try:
        window.check(sequence)
    except Drop as drop:
        assert drop.reason is Reason.REPLAYED
        return False
    return True


def same_everywhere(window: ReplayWindow, naive: Naive) -> None:
    """Every number from well left of the window to right of it passes in both or in neither."""
    assert window.highest == naive.highest
    for sequence in range(max(0, naive.highest - naive.size - 130), naive.highest + 3):
        assert passes(window, sequence) == naive.accepts(sequence), sequence


# Steps relative to the highest number: mostly inside the window, around its edges and those of words, some far away.
EDGES = [edge + nudge for edge in (0, 63, 64, 65, 100, 128, 1000, 1024, 4096) for nudge in (-1, 0, 1)]
NEAR = st.one_of(st.sampled_from(EDGES + [-edge for edge in EDGES]), st.integers(-70, 70), st.integers(-4200, 4200))
STEPS = st.lists(st.one_of(NEAR, st.integers(-(1 << 20), 1 << 20)), min_size=1, max_size=60)


@pytest.mark.parametrize("size", [64, 65, 100, 128, 1000, 1024, 4096])
def test_long_walks_leave_the_window_as_the_naive_model_says_rfc6479(size: int) -> None:
    for seed in range(3):
        random = Random(f"{size} {seed}")
        window, naive = ReplayWindow(size, esn=False), Naive(size)
        for count in range(1500):
            step = random.choice(
                (random.randint(-size, 3), random.randint(0, 5), random.choice(EDGES), -size, 1 - size)
            )
            sequence = max(0, naive.highest + step)
            assert passes(window, sequence) == naive.accepts(sequence)
            if naive.accepts(sequence):
                window.update(sequence)
                naive.receive(sequence)
            if count % 300 == 299:
                same_everywhere(window, naive)


@given(size=SIZES, steps=STEPS)
@settings(deadline=None, max_examples=200)
def test_window_accepts_exactly_what_the_naive_model_does_rfc4303_3_4_3(size: int, steps: list[int]) -> None:
    window, naive = ReplayWindow(size, esn=False), Naive(size)
    for step in steps:
        sequence = max(0, min(naive.highest + step, 0xFFFF_FFFF))
        assert passes(window, sequence) == naive.accepts(sequence)
        if naive.accepts(sequence):
            window.update(sequence)
            naive.receive(sequence)
            assert not passes(window, sequence)
    same_everywhere(window, naive)


@given(
    size=SIZES,
    start=st.one_of(
        st.integers(0, 5000),
        st.integers((1 << 32) - 5000, (1 << 32) + 5000),
        st.integers((7 << 32) - 5000, (7 << 32) + 5000),
        st.integers((1 << 64) - 5000, (1 << 64) - 1),
    ),
    steps=st.lists(NEAR, min_size=1, max_size=60),
)
@settings(deadline=None, max_examples=200)
def test_esn_window_is_right_around_every_multiple_of_2_32_rfc4303_a2(size: int, start: int, steps: list[int]) -> None:
    window = ReplayWindow.restore(size, esn=True, highest=start, bitmap=0)
    naive = Naive(size, start)
    for step in steps:
        sequence = max(0, min(naive.highest + step, (1 << 64) - 1))
        # What a receiver has is the low half. It must find the whole number wherever that is in the window, or at most
        # 2^32 - size right of it; left of the window there is no way to know, and nothing left of it may pass.
        try:
            inferred = window.infer(sequence & 0xFFFF_FFFF)
        except Drop as drop:
            assert drop.reason is Reason.REPLAYED
            assert not naive.accepts(sequence)
            continue
        if sequence > naive.highest - size:
            assert inferred == sequence
        else:
            assert inferred > naive.highest  # another subspace: its ICV will not verify
            continue
        assert passes(window, sequence) == naive.accepts(sequence)
        if naive.accepts(sequence):
            window.update(sequence)
            naive.receive(sequence)


@given(
    size=SIZES,
    highest=st.one_of(
        st.integers(0, (1 << 64) - 1),
        st.builds(
            lambda high, near: max(0, (high << 32) + near), st.integers(0, (1 << 32) - 1), st.sampled_from(EDGES)
        ),
    ),
    distance=st.one_of(st.integers(0, 0xFFFF_FFFF), st.sampled_from([0, 1, 2, 0xFFFF_FFFE, 0xFFFF_FFFF])),
)
@settings(deadline=None, max_examples=500)
def test_inferred_number_is_the_one_candidate_not_left_of_the_window_rfc4303_a2_2(
    size: int, highest: int, distance: int
) -> None:
    window = ReplayWindow.restore(size, esn=True, highest=highest, bitmap=0)
    bottom = highest - size + 1
    # Exactly one number with its low bits lies in [bottom, bottom + 2^32).
    candidate = bottom + distance
    low = candidate & 0xFFFF_FFFF
    if 0 <= candidate < 1 << 64:
        assert window.infer(low) == candidate
    else:
        with pytest.raises(Drop) as drop:
            window.infer(low)
        assert drop.value.reason is Reason.REPLAYED


@given(size=SIZES, low=st.integers(0, 0xFFFF_FFFF), highest=st.integers(0, 0xFFFF_FFFF))
@settings(deadline=None)
def test_without_esn_numbers_are_what_they_are_and_never_wrap_rfc4303_3_3_3(size: int, low: int, highest: int) -> None:
    window = ReplayWindow.restore(size, esn=False, highest=highest, bitmap=0)
    assert window.infer(low) == low


def test_zero_never_passes_rfc4303_3_3_3() -> None:
    assert not passes(ReplayWindow(64, esn=False), 0)
    assert not passes(ReplayWindow(64, esn=True), 0)


def test_check_changes_nothing_rfc4303_3_4_3() -> None:
    window = ReplayWindow(64, esn=False)
    window.update(10)
    before = window.export()
    for sequence in range(100):
        passes(window, sequence)
    assert window.export() == before


@pytest.mark.parametrize("size", [-1, 0, 63, 4097])
def test_sizes_that_are_not_supported_are_refused(size: int) -> None:
    with pytest.raises(Refusal) as refusal:
        ReplayWindow(size, esn=False)
    assert refusal.value.reason is Reason.REPLAY_WINDOW_UNSUPPORTED


@given(size=SIZES, start=st.integers(0, 1 << 40), steps=st.lists(st.integers(-200, 200), max_size=60))
@settings(deadline=None)
def test_export_has_the_newest_in_the_lowest_bit_and_restores_to_the_same_window(
    size: int, start: int, steps: list[int]
) -> None:
    window = ReplayWindow.restore(size, esn=True, highest=start, bitmap=0)
    for step in steps:
        sequence = window.highest + step
        if sequence > 0 and passes(window, sequence):
            window.update(sequence)
    highest, bitmap = window.export()
    assert bitmap >> size == 0
    for back in range(size):
        if highest - back > 0:
            assert (bitmap >> back & 1) == (not passes(window, highest - back))
    again = ReplayWindow.restore(size, esn=True, highest=highest, bitmap=bitmap)
    assert again.export() == (highest, bitmap)
    for sequence in range(max(0, highest - size - 2), highest + 3):
        assert passes(again, sequence) == passes(window, sequence)


def test_restoring_to_a_wider_window_refuses_what_the_export_did_not_cover() -> None:
    old = ReplayWindow(64, esn=False)
    for sequence in range(1, 201):
        old.update(sequence)
    highest, bitmap = old.export()
    wide = ReplayWindow.restore(1024, esn=False, highest=highest, bitmap=bitmap, known=64)
    assert not any(passes(wide, sequence) for sequence in range(201))
    assert passes(wide, 201)
    # To a narrower one nothing is lost.
    assert ReplayWindow.restore(64, esn=False, highest=highest, bitmap=bitmap).export() == (highest, bitmap)
