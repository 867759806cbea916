"""Sizes, offsets and numbers against linux/xfrm.h, as a C compiler understands it (``uapi.json``, by ``uapi.py``)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from appliance.datapath.kernel.xfrm import messages
from appliance.datapath.kernel.xfrm.layout import STRUCTURES, Layout

from .uapi import numbers

UAPI: dict[str, Any] = json.loads((Path(__file__).parent / "uapi.json").read_text())
LINES = [line.split() for line in UAPI["lines"]]


@pytest.mark.parametrize("layout", STRUCTURES, ids=lambda layout: layout.name)
def test_a_structure_has_the_size_and_the_members_that_it_has_in_c(layout: Layout) -> None:
    assert ["size", layout.name, str(layout.size)] in LINES
    assert layout.codec.size == layout.size
    in_c = [line[2:] for line in LINES if line[:2] == ["member", layout.name]]
    assert in_c == [[member.name, str(member.offset), str(member.size)] for member in layout.members]


def test_numbers_are_those_of_the_header() -> None:
    in_c = {line[1]: int(line[2]) for line in LINES if line[0] == "number"}
    assert in_c == {own: value for own, (_, value) in numbers().items()}


def test_the_header_is_of_a_kernel_that_has_migrate_state() -> None:
    assert "7.3" in UAPI["source"]


def test_nlmsg_classes_take_their_fields_from_the_same_layout() -> None:
    for name, kind in vars(messages).items():
        if isinstance(kind, type) and issubclass(kind, messages.XfrmMessage) and kind is not messages.XfrmMessage:
            blank = kind()
            blank.encode()
            assert len(blank.data) == 16 + sum(messages.size_of(form) for _, form in kind.fields), name
