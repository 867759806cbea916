"""Classic BPF: the programs by which the kernel tells ESP packets apart before anybody reads them.

An instruction is (code, jump if true, jump if false, constant), as in linux/filter.h; jumps are 8 bits wide and count
from the next instruction. A load beyond the packet ends a program with 0.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
from collections.abc import Sequence

MOST_INSTRUCTIONS = 4096
"""BPF_MAXINSNS."""

LENGTH, WORD, WORD_AT_X, HEADER_LENGTH = 0x80, 0x20, 0x40, 0xB1
"""Load: the packet's length; the 32 bits at an offset; those at X + offset; X = four times a byte's low four bits."""
JUMP, IF_EQUAL, IF_AT_LEAST, RETURN = 0x05, 0x15, 0x35, 0x06

_SO_ATTACH_FILTER = 26
_SO_DETACH_FILTER = 27
_SO_ATTACH_REUSEPORT_CBPF = 51
_INSTRUCTION = struct.Struct("=HBBI")
_FURTHEST = 255

Instruction = tuple[int, int, int, int]
Program = Sequence[Instruction]


def among(values: Sequence[int], yes: int, no: int, *, bucket: int = 8) -> list[Instruction]:
    """Return ``yes`` if the accumulator is one of ``values`` (in order), else ``no``.

    A binary search down to ``bucket`` values, at most 253, which are then compared one by one: a larger bucket makes a
    shorter and slower program.
    """
    if len(values) <= bucket:
        chain = [(IF_EQUAL, len(values) - at, 0, value) for at, value in enumerate(values)]
        return [*chain, (RETURN, 0, 0, no), *([(RETURN, 0, 0, yes)] if values else [])]
    middle = (len(values) // bucket + 1) // 2 * bucket  # buckets stay full
    below = among(values[:middle], yes, no, bucket=bucket)
    above = among(values[middle:], yes, no, bucket=bucket)
    if len(below) <= _FURTHEST:
        return [(IF_AT_LEAST, len(below), 0, values[middle]), *below, *above]
    return [(IF_AT_LEAST, 0, 1, values[middle]), (JUMP, 0, 0, len(below)), *below, *above]


def choose_socket(sock: socket.socket, program: Program) -> None:
    """Have a program choose by the payload among the sockets that share a port (SO_REUSEPORT), instead of another one.

    It returns their number, in the order in which they were bound. Raises OSError: ENOMEM where it is too long for
    net.core.optmem_max.
    """
    _attach(sock, _SO_ATTACH_REUSEPORT_CBPF, program)


def screen(sock: socket.socket, program: Program | None) -> None:
    """Have a program say how many bytes of a packet the socket gets, instead of another one; None: all of each.

    Raises OSError: ENOMEM where it is too long for net.core.optmem_max, together with the one that it replaces.
    """
    if program is not None:
        _attach(sock, _SO_ATTACH_FILTER, program)
        return
    with contextlib.suppress(FileNotFoundError):  # there was none
        sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


def _attach(sock: socket.socket, option: int, program: Program) -> None:
    code = b"".join(_INSTRUCTION.pack(*instruction) for instruction in program)
    # struct sock_fprog points to the instructions: the buffer has to outlive the call, and does.
    buffer = ctypes.create_string_buffer(code, len(code))
    sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("@HP", len(program), ctypes.addressof(buffer)))
