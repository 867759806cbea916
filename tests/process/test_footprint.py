"""What the processes leave out and give back, and that everything works without it."""

from __future__ import annotations

import subprocess
import sys

from appliance.process.footprint import _clean_mappings

SMAPS = """\
55550000-55552000 r--p 00000000 fe:00 11 /usr/bin/python3
Rss: 8 kB
Anonymous: 0 kB
VmFlags: rd mr
55552000-55553000 r--p 00002000 fe:00 11 /usr/bin/python3
Anonymous: 4 kB
55553000-55554000 rw-p 00003000 fe:00 11 /usr/bin/python3
Anonymous: 0 kB
55554000-55558000 r-xp 00004000 fe:00 12 /usr/lib/with a space.so (deleted)
Anonymous: 0 kB
7ffd0000-7ffd2000 r--p 00000000 00:00 0
Anonymous: 0 kB
7ffd2000-7ffd4000 r-xp 00000000 00:00 0 [vdso]
Anonymous: 0 kB
"""


def script(text: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.split()


def test_only_pages_that_are_all_a_files_are_given_back() -> None:
    assert _clean_mappings(SMAPS) == [(0x55550000, 0x2000), (0x55554000, 0x4000)]


def test_code_is_given_back_although_it_was_locked_and_still_runs() -> None:
    before, after, sealed = script(
        "import re\n"
        "from pathlib import Path\n"
        "from appliance.process.footprint import trim_memory\n"
        "from appliance.process.hardening import harden\n"
        "from cryptography.hazmat.primitives.ciphers.aead import AESGCM\n"
        "import numpy\n"
        "def code():\n"
        "    maps = Path('/proc/self/smaps').read_text().split('VmFlags')\n"
        "    return sum(int(re.search(r'Rss: +(\\d+)', m)[1]) for m in maps if '_rust' in m and ' r-xp ' in m)\n"
        "harden()\n"
        "print(code())\n"
        "trim_memory()\n"
        "print(code())\n"
        "print(len(AESGCM(bytes(16)).encrypt(bytes(12), bytes(int(numpy.arange(3).sum())), None)))\n"
    )
    assert int(after) < int(before) / 4
    assert sealed == "19"


def test_the_daemon_and_the_datapath_load_one_openssl_and_no_certificates_or_parsers_before_they_need_them() -> None:
    left_out = "{'ssl', '_ssl', '_hashlib', 'cryptography.x509', 'email', 'tomllib', 'difflib', 'numpy'}"
    loaded = "sorted(name for name in " + left_out + " if sys.modules.get(name) is not None)"
    start = "import sys\nfrom appliance.process.footprint import leave_out_openssl\nleave_out_openssl()\n"
    libraries = "print('libcrypto' in open('/proc/self/maps').read())\n"
    assert script(f"{start}import appliance.daemon.main\nprint({loaded})\n{libraries}") == ["[]", "False"]
    datapath = f"{start}import appliance.datapath.soft.process\nprint({loaded}, 'asyncio' in sys.modules)\n{libraries}"
    assert script(datapath) == ["['numpy']", "False", "False"]


def test_hashes_and_macs_are_the_same_without_pythons_own_openssl() -> None:
    text = (
        "import hashlib\n"
        "from appliance.ike.keys import prf\n"
        "from appliance.sa.algorithms import Prf\n"
        "print(prf(Prf.HMAC_SHA2_384, b'key', b'a', b'b').hex())\n"
        "print(hashlib.sha1(b'a', usedforsecurity=False).hexdigest(), hashlib.sha256(b'a').hexdigest())\n"
    )
    without = "from appliance.process.footprint import leave_out_openssl\nleave_out_openssl()\n" + text
    assert script(without) == script(text)
