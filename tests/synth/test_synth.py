"""Synthesis: what is read out of the tools' reports, and that every build is of a module that there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from hw.synth import flow, harness
from hw.synth.__main__ import table


def test_builds_are_of_modules_that_there_are() -> None:
    for build in flow.builds():
        text = flow.source(build).read_text()
        assert all(f" {name} " in text for name in build.parameters), build.name


def test_a_build_for_no_device_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "builds.toml"
    path.write_text('[[build]]\nname = "a"\nmodule = "fifo"\ntargets = ["ecp6"]\n')
    with pytest.raises(ValueError, match="ecp6"):
        flow.builds(path)
    path.write_text('[[build]]\nname = "a"\nmodule = "fifo"\n' * 2)
    with pytest.raises(ValueError, match="one name"):
        flow.builds(path)


def test_a_harness_has_a_register_for_each_bit() -> None:
    ports = [
        harness.Port("clk_i", "input", 1),
        harness.Port("rst_ni", "input", 1),
        harness.Port("data_i", "input", 8),
        harness.Port("valid_o", "output", 1),
        harness.Port("data_o", "output", 16),
    ]
    text = harness.verilog("thing", ports)
    assert "reg [8:0] in_q;" in text
    assert "reg [16:0] out_q, sum_q;" in text
    for connection in (".clk_i(clk_i)", ".rst_ni(in_q[0:0])", ".data_i(in_q[8:1])", ".data_o(out[16:1])"):
        assert connection in text
    with pytest.raises(ValueError, match="no inputs or no outputs"):
        harness.verilog("thing", ports[:3])


def test_area_of_each_device() -> None:
    ecp5 = flow.count("ecp5", {"LUT4": 100, "CCU2C": 3, "TRELLIS_DPR16X4": 2, "TRELLIS_FF": 7, "DP16KD": 1})
    assert ecp5 == {"lut": 118, "lut_carry": 6, "lut_memory": 12, "ff": 7, "block_ram": 1, "dsp": 0}
    xc7 = flow.count("xc7", {"LUT1": 1, "LUT6": 10, "CARRY4": 5, "RAM32M": 2, "SRL16E": 3, "FDRE": 4, "FDSE": 1,
                             "RAMB36E1": 2, "RAMB18E1": 3, "MUXF7": 9})  # fmt: skip
    assert xc7 == {"lut": 22, "lut_carry": 0, "lut_memory": 11, "ff": 5, "block_ram": 4, "dsp": 0}


def test_what_memories_became() -> None:
    dump = """
  attribute \\src "a.sv:1"
  cell $mem_v2 \\u_ram.mem
    parameter \\MEMID "\\\\u_ram.mem"
    parameter signed \\SIZE 1024
    parameter signed \\WIDTH 128
  end
  cell $mem_v2 \\mem
    parameter \\MEMID "\\\\mem"
    parameter \\SIZE 16
    parameter \\WIDTH 8
  end
  cell $mem_v2 \\few
    parameter \\MEMID "\\\\few"
    parameter \\SIZE 4
    parameter \\WIDTH 2
  end
"""
    log = """
mapping memory top.u_ram.mem via $__DP16KD_
mapping memory top.mem via $__TRELLIS_DPR16X4_
using FF mapping for memory top.few
"""
    assert flow.memories_of("top", dump, log) == {
        "few": {"words": 4, "bits": 2, "as": "flip-flops"},
        "mem": {"words": 16, "bits": 8, "as": "TRELLIS_DPR16X4"},
        "u_ram.mem": {"words": 1024, "bits": 128, "as": "DP16KD"},
    }


def step(kind: str, delay: float, cell: str, net: str = "") -> dict[str, object]:
    return {"type": kind, "delay": delay, "from": {"cell": cell}, "to": {"cell": cell}, "net": net}


def test_the_longest_path_between_registers() -> None:
    path = [
        step("clk-to-q", 0.5, "dut.a_q_TRELLIS_FF_Q_3"),
        step("routing", 1.0, "x", "dut.a_q[3]"),
        step("logic", 0.25, "x"),
        step("routing", 2.0, "x", "dut.sum_LUT4_Z_D[1]"),
        step("setup", 0.0, "dut.b_q_TRELLIS_FF_Q"),
    ]
    outside = [step("routing", 9.0, "pin_o$io")]
    clock = "posedge $glbnet$clk_i"
    report = {
        "critical_paths": [
            {"from": clock, "to": "<async>", "path": outside},
            {"from": clock, "to": clock, "path": path[:3]},
            {"from": clock, "to": clock, "path": path},
        ]
    }
    assert flow.critical_path(report) == {
        "from": "a_q",
        "to": "b_q",
        "levels": 1,
        "logic_ns": 0.25,
        "routing_ns": 3.0,
        "register_ns": 0.5,
        "through": ["a_q[3]", "sum"],
    }


def test_the_table_names_memories_that_are_in_flip_flops() -> None:
    area = {"lut": 5, "lut_carry": 2, "lut_memory": 0, "ff": 512, "block_ram": 0, "dsp": 0}
    memories = {
        "mem": {"words": 64, "bits": 8, "as": "flip-flops"},
        "shift_q": {"words": 2, "bits": 8, "as": "flip-flops"},
        "ram": {"words": 512, "bits": 8, "as": "DP16KD"},
    }
    result = {
        "name": "thing-7",
        "target": "ecp5",
        "area": {**area, "memories": memories},
        "model": {"mhz": 120.3},
        "mhz": 101.5,
        "gbit_per_s": 1.86,
    }
    other = {**result, "target": "xc7", "mhz": None, "gbit_per_s": None, "area": {**area, "memories": {}}}
    lines = table([result, other]).splitlines()
    assert lines[1].split() == ["thing-7", "ecp5", "5", "2", "0", "512", "0", "0", "120.3", "101.5", "1.86"]
    assert lines[2].split() == ["thing-7", "xc7", "5", "2", "0", "512", "0", "0", "120.3"]
    assert lines[3:] == ["thing-7 for ecp5: mem, 64 x 8 bits, is flip-flops"]
