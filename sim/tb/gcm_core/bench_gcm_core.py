"""gcm_core with its key_unit: NIST's vectors, RFC 4106's packets from the golden model, commands among packets."""

from __future__ import annotations

import os
import random

import cocotb
import cryptography_vectors

from appliance.esp.aead import aes_gcm_16
from sim.tb.gcm_core.plan import Plan, memory
from sim.tb.model import gcm

INTERVAL, SAS = int(os.environ["INTERVAL"]), int(os.environ["SAS"])


def random_key() -> bytes:
    return random.randbytes(random.choice((16, 32)))


def some_sas(count: int) -> list[int]:
    """A few of the SAs, the first and the last among them."""
    others = range(1, SAS - 1)
    return [*{0, SAS - 1}, *random.sample(others, min(count - 2, len(others)))][: min(count, SAS)]


def nist_cases(kind: str, bits: int) -> list[dict[str, str]]:
    """The cases of a CAVP file with 96 bits of IV and 128 of tag; those that must fail have the key FAIL."""
    cases: list[dict[str, str]] = []
    settings: dict[str, str] = {}
    with cryptography_vectors.open_vector_file(f"ciphers/AES/GCM/{kind}{bits}.rsp", "r") as file:
        for raw in file:
            line = raw.strip()
            name, equals, value = (part.strip() for part in line.partition("="))
            if line.startswith("["):
                settings[name.strip("[] ")] = value.strip("] ")
            elif name == "Count":
                cases.append(dict(settings))
            elif line == "FAIL":
                cases[-1]["FAIL"] = ""
            elif equals and cases:
                cases[-1][name] = value
    return [case for case in cases if case["IVlen"] == "96" and case["Taglen"] == "128"]


@cocotb.test()
async def nist_cavp_vectors_sp_800_38d(dut: object) -> None:
    plan, encrypted, decrypted, forged = Plan(INTERVAL), 0, 0, 0
    for bits in (128, 256):
        for kind in ("gcmEncryptExtIV", "gcmDecrypt"):
            for case in nist_cases(kind, bits):
                sa, decrypt, fails = random.randrange(SAS), kind == "gcmDecrypt", "FAIL" in case
                words = {name: bytes.fromhex(case.get(name, "")) for name in ("Key", "IV", "AAD", "PT", "CT", "Tag")}
                text, result = (words["CT"], words["PT"]) if decrypt else (words["PT"], words["CT"])
                plan.install(sa, words["Key"])
                plan.packet(
                    sa,
                    words["IV"],
                    words["AAD"],
                    text,
                    decrypt=decrypt,
                    result=None if fails else result,  # a forged packet has none in the file
                    tag=words["Tag"],
                    forged=fails,
                )
                forged += fails
                decrypted += decrypt
                encrypted += not decrypt
    await plan.play(dut)
    dut._log.info("%d vectors: %d encrypted, %d decrypted, of which %d forged", plan.tags, encrypted, decrypted, forged)
    assert (encrypted, decrypted) == (750, 750)
    assert forged > 300


@cocotb.test()
async def packets_of_the_golden_model_rfc4106(dut: object) -> None:
    """AAD of 8 and 12 bytes, both directions by turns, SAs mixed, some changed on the way, some packets forged."""
    plan = Plan(INTERVAL)
    sas = some_sas(6)
    models = {}

    def install(sa: int, staged: int | None = None, key: bytes | None = None) -> None:
        salt = random.randbytes(4)
        if key is None or staged is None:
            key = random_key()
            plan.install(sa, key)
        else:
            plan.key(sa, key, staged)
        models[sa] = (aes_gcm_16(key + salt), salt)

    def packet(sa: int) -> None:
        model, salt = models[sa]
        header, high, iv = random.randbytes(8), random.choice((b"", random.randbytes(4))), random.randbytes(8)
        # Without text a packet is two slots, the shortest that a command can have beside it.
        length = 4 * random.choice((0, random.randrange(1, 20), random.randrange(1, 20), random.randrange(1, 60), 375))
        plaintext = random.randbytes(length)
        sealed = model.seal(header, high, iv, plaintext)
        ciphertext, tag = sealed[16:-16], sealed[-16:]
        aad = header[:4] + high + header[4:]
        if random.random() < 0.5:
            plan.packet(sa, salt + iv, aad, plaintext, decrypt=False, result=ciphertext, tag=tag)
        elif not length or random.random() < 0.8:
            plan.packet(sa, salt + iv, aad, ciphertext, decrypt=True, result=plaintext, tag=tag)
        else:
            bit = 1 << random.randrange(8 * length)
            changed = (int.from_bytes(ciphertext, "big") ^ bit).to_bytes(length, "big")
            plan.packet(sa, salt + iv, aad, changed, decrypt=True, tag=tag, forged=True)

    for sa in sas:
        install(sa)
    # The next key is made while packets run, and delivered among packets of its SA.
    key, commands = random_key(), 0
    staged, load = plan.stage(key), 1.0
    while plan.tags < 3500:
        if random.random() < 0.02:
            load = random.choice((1.0, 0.7, 0.2))
        packet(random.choice(sas))
        if random.random() > load:
            plan.gap(random.randrange(1, 12))
        if plan.cycle >= staged and random.random() < 0.3:
            sa = random.choice(sas)
            packet(sa)
            install(sa, staged, key)
            packet(sa)
            commands += 1
            key = random_key()
            staged = plan.stage(key)
    await plan.play(dut)
    dut._log.info("%d packets, %d keys among them", plan.tags, commands)
    assert commands > 80


@cocotb.test()
async def a_packet_of_n_blocks_takes_n_and_two_slots(dut: object) -> None:
    """Not one idle slot from the first packet to the last, over many SAs; and the longest packet there is."""
    plan = Plan(INTERVAL)
    sas = some_sas(16)
    for sa in sas:
        plan.install(sa, random_key())
    start, slots = plan.cycle, 0
    for n in [*range(12), *(random.randrange(100) for _ in range(60)), *[0] * 20, *[1] * 20, 4096, 0, 1]:
        text = random.randbytes(16 * n - random.randrange(16 if n else 1))
        aad = random.randbytes(random.choice((8, 12)))
        decrypt = bool(random.getrandbits(1))
        plan.packet(random.choice(sas), random.randbytes(12), aad, text, decrypt=decrypt)
        slots += n + 2
    assert plan.cycle - start == INTERVAL * slots
    assert all(plan.gives[cycle] is not None for cycle in range(start, plan.cycle, INTERVAL))
    last_slot = plan.cycle - INTERVAL
    assert await plan.play(dut) == last_slot + {1: 22, 2: 22, 7: 39, 14: 32}[INTERVAL]


@cocotb.test()
async def what_is_removed_is_zero_in_every_memory(dut: object) -> None:
    plan = Plan(INTERVAL)
    sas = some_sas(8)
    for sa in sas:
        plan.install(sa, random_key())
        plan.packet(sa, random.randbytes(12), random.randbytes(8), random.randbytes(100), decrypt=False)
    removed = random.sample(sas, (len(sas) + 1) // 2)
    for sa in removed:
        # The packets in front of the command still have the keys.
        staged = plan.stage(None)
        plan.gap(max(0, (staged - plan.cycle) // INTERVAL))
        plan.packet(sa, random.randbytes(12), random.randbytes(8), random.randbytes(100), decrypt=True)
        plan.key(sa, None, staged)
    for sa in plan.keys:
        plan.packet(sa, random.randbytes(12), random.randbytes(8), random.randbytes(100), decrypt=False)
    await plan.play(dut)
    powers = gcm.powers(INTERVAL)
    for sa in sas:
        words = memory(dut, INTERVAL, sa)
        if sa in removed:
            assert words == {"round keys": [0] * 15, "powers": [0] * powers}
        else:
            key = plan.keys[sa].key
            assert words["round keys"] == [gcm.packed(word) for word in gcm.staged_round_keys(key)[:15]]
            assert words["powers"] == [gcm.packed(word) for word in gcm.powers_of(gcm.hash_key(key), powers)]
