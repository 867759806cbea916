"""Key exchanges against the RFCs' own numbers, and public values that must be refused."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.ike import ke as module
from appliance.ike.ke import InvalidKeyExchange, generate, public_length, respond
from appliance.sa.algorithms import KeyExchangeMethod
from tests.ike.vectors import records

K = KeyExchangeMethod
METHODS = [method for method in K if method is not K.NONE]
MODP = {K.MODP_2048: (2048, 124476, 1), K.MODP_3072: (3072, 1690314, 2), K.MODP_4096: (4096, 240904, 3)}
LENGTHS = dict(zip(METHODS, (256, 384, 512, 64, 96, 132, 32, 56), strict=True))


def seeded(seed: int) -> Callable[[int], bytes]:
    return Random(seed).randbytes


def given_scalar(scalar: int) -> Callable[[int], bytes]:
    """A random source from which an ECP private value becomes ``scalar``."""
    return lambda length: (scalar - 1).to_bytes(length, "big")


@pytest.mark.parametrize("method", METHODS)
def test_both_sides_get_the_same_secret_rfc7296_1_2(method: K) -> None:
    ours, theirs = generate(method, seeded(1)), generate(method, seeded(2))
    assert ours.method is method
    assert len(ours.public) == public_length(method) == LENGTHS[method]
    assert ours.public != theirs.public
    secret = ours.shared(theirs.public)
    assert secret == theirs.shared(ours.public)
    assert len(secret) == LENGTHS[method] // (2 if method.name.startswith("ECP") else 1)


@pytest.mark.parametrize("method", METHODS)
def test_a_seed_repeats_the_exchange(method: K) -> None:
    assert generate(method, seeded(5)).public == generate(method, seeded(5)).public


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("change", [-1, 1])
def test_a_wrong_length_is_refused_rfc7296_3_4(method: K, change: int) -> None:
    ours = generate(method, seeded(1))
    public = generate(method, seeded(2)).public
    for bad in (b"", public[:change] if change < 0 else public + b"\0", b"\0" + public):
        with pytest.raises(InvalidKeyExchange, match="bytes"):
            ours.shared(bad)


def _pi(bits: int) -> int:
    """The integer part of pi · 2^bits, by Machin's formula."""
    guard = 64
    one = 1 << (bits + guard)

    def arctan_of_inverse(x: int) -> int:
        term = total = one // x
        n, sign = 3, -1
        while term:
            term //= x * x
            total += sign * (term // n)
            n, sign = n + 2, -sign
        return total

    return (4 * (4 * arctan_of_inverse(5) - arctan_of_inverse(239))) >> guard


@pytest.mark.parametrize("method", MODP)
def test_primes_are_those_of_the_formula_rfc3526(method: K) -> None:
    bits, offset, index = MODP[method]
    prime = int(module._MODP[method][0], 16)
    assert prime == 2**bits - 2 ** (bits - 64) - 1 + 2**64 * (_pi(bits - 130) + offset)
    listed = list(records("asymmetric/DH/rfc3526.txt"))[index]
    assert prime == int(listed["p"], 16)
    assert int(listed["g"]) == module._GENERATOR


@pytest.mark.parametrize("method", MODP)
def test_modp_is_plain_modular_exponentiation_rfc7296_2_14(method: K) -> None:
    """The library does 2^x by an exchange with 2; Python's own arithmetic is the independent answer."""
    prime, bits = int(module._MODP[method][0], 16), module._MODP[method][1]
    exponent = int.from_bytes(seeded(9)(bits // 8), "big") | 1 << (bits - 1)
    ours, theirs = generate(method, seeded(9)), generate(method, seeded(10))
    size = LENGTHS[method]
    assert ours.public == pow(2, exponent, prime).to_bytes(size, "big")
    assert ours.shared(theirs.public) == pow(int.from_bytes(theirs.public, "big"), exponent, prime).to_bytes(
        size, "big"
    )


def test_modp_exponents_are_long_enough_rfc3526_8() -> None:
    assert [bits for _, bits in module._MODP.values()] == [320, 424, 480]
    assert all(bits >= need for (_, bits), need in zip(module._MODP.values(), (320, 420, 480), strict=True))


@pytest.mark.parametrize("method", MODP)
def test_modp_values_outside_2_to_p_minus_2_are_refused_rfc6989_2_1(method: K) -> None:
    ours = generate(method, seeded(1))
    prime, size = int(module._MODP[method][0], 16), LENGTHS[method]
    for value in (0, 1, prime - 1, prime, prime + 1, 2 ** (8 * size) - 1):
        with pytest.raises(InvalidKeyExchange):
            ours.shared(value.to_bytes(size, "big"))


@pytest.mark.parametrize("method", MODP)
def test_modp_values_at_the_bounds_are_taken_rfc6989_2_1(method: K) -> None:
    ours = generate(method, seeded(1))
    prime, size = int(module._MODP[method][0], 16), LENGTHS[method]
    assert ours.shared((2).to_bytes(size, "big")) == ours.public
    secret = int.from_bytes(ours.shared((prime - 2).to_bytes(size, "big")), "big")
    assert secret in (int.from_bytes(ours.public, "big"), prime - int.from_bytes(ours.public, "big"))


def test_modp_secrets_are_filled_with_zeros_in_front_rfc7296_2_14() -> None:
    """About one secret in 256 starts with a zero byte, which must not be lost."""
    ours = generate(K.MODP_2048, seeded(1))
    prime = int(module._MODP[K.MODP_2048][0], 16)
    found = 0
    value = 4
    while not found:
        secret = ours.shared(value.to_bytes(256, "big"))
        assert len(secret) == 256
        found += secret[0] == 0
        value = value * 4 % prime


# RFC 5903 §8: i, gi (x, y), r, gr (x, y), girx.
ECP = {
    K.ECP_256: (
        "c88f01f510d9ac3f70a292daa2316de544e9aab8afe84049c62a9c57862d1433",
        "dad0b65394221cf9b051e1feca5787d098dfe637fc90b9ef945d0c3772581180"
        "5271a0461cdb8252d61f1c456fa3e59ab1f45b33accf5f58389e0577b8990bb3",
        "c6ef9c5d78ae012a011164acb397ce2088685d8f06bf9be0b283ab46476bee53",
        "d12dfb5289c8d4f81208b70270398c342296970a0bccb74c736fc7554494bf63"
        "56fbf3ca366cc23e8157854c13c58d6aac23f046ada30f8353e74f33039872ab",
        "d6840f6b42f6edafd13116e0e12565202fef8e9ece7dce03812464d04b9442de",
    ),
    K.ECP_384: (
        "099f3c7034d4a2c699884d73a375a67f7624ef7c6b3c0f160647b67414dce655e35b538041e649ee3faef896783ab194",
        "667842d7d180ac2cde6f74f37551f55755c7645c20ef73e31634fe72b4c55ee6de3ac808acb4bdb4c88732aee95f41aa"
        "9482ed1fc0eeb9cafc4984625ccfc23f65032149e0e144ada024181535a0f38eeb9fcff3c2c947dae69b4c634573a81c",
        "41cb0779b4bdb85d47846725fbec3c9430fab46cc8dc5060855cc9bda0aa2942e0308312916b8ed2960e4bd55a7448fc",
        "e558dbef53eecde3d3fccfc1aea08a89a987475d12fd950d83cfa41732bc509d0d1ac43a0336def96fda41d0774a3571"
        "dcfbec7aacf3196472169e838430367f66eebe3c6e70c416dd5f0c68759dd1fff83fa40142209dff5eaad96db9e6386c",
        "11187331c279962d93d604243fd592cb9d0a926f422e47187521287e7156c5c4d603135569b9e9d09cf5d4a270f59746",
    ),
    K.ECP_521: (
        "0037ade9319a89f4dabdb3ef411aaccca5123c61acab57b5393dce47608172a095aa85a30fe1c2952c6771d937ba9777"
        "f5957b2639bab072462f68c27a57382d4a52",
        "0015417e84dbf28c0ad3c278713349dc7df153c897a1891bd98bab4357c9ecbee1e3bf42e00b8e380aeae57c2d107564"
        "941885942af5a7f4601723c4195d176ced3e"
        "017cae20b6641d2eeb695786d8c946146239d099e18e1d5a514c739d7cb4a10ad8a788015ac405d7799dc75e7b7d5b6c"
        "f2261a6a7f1507438bf01beb6ca3926f9582",
        "0145ba99a847af43793fdd0e872e7cdfa16be30fdc780f97bccc3f078380201e9c677d600b343757a3bdbf2a3163e4c2"
        "f869cca7458aa4a4effc311f5cb151685eb9",
        "00d0b3975ac4b799f5bea16d5e13e9af971d5e9b984c9f39728b5e5739735a219b97c356436adc6e95bb0352f6be64a6"
        "c2912d4ef2d0433ced2b6171640012d9460f"
        "015c68226383956e3bd066e797b623c27ce0eac2f551a10c2c724d9852077b87220b6536c5c408a1d2aebb8e86d678ae"
        "49cb57091f4732296579ab44fcd17f0fc56a",
        "01144c7d79ae6956bc8edb8e7c787c4521cb086fa64407f97894e5e6b2d79b04d1427e73ca4baa240a34786859810c06"
        "b3c715a3a8cc3151f2bee417996d19f3ddea",
    ),
}


@pytest.mark.parametrize("method", ECP)
def test_ecp_gives_the_known_answers_rfc5903_8(method: K) -> None:
    i, gi, r, gr, girx = ECP[method]
    initiator, responder = (generate(method, given_scalar(int(scalar, 16))) for scalar in (i, r))
    assert initiator.public.hex() == gi
    assert responder.public.hex() == gr
    assert initiator.shared(responder.public).hex() == responder.shared(initiator.public).hex() == girx


@pytest.mark.parametrize("method", ECP)
def test_points_off_the_curve_are_refused_rfc6989_2_3(method: K) -> None:
    ours = generate(method, seeded(1))
    good = generate(method, seeded(2)).public
    half = len(good) // 2
    bad = [good[:-1] + bytes([good[-1] ^ 1]), bytes(len(good)), b"\xff" * len(good), good[half:] + good[:half]]
    for point in bad:
        with pytest.raises(InvalidKeyExchange, match="curve"):
            ours.shared(point)


@pytest.mark.parametrize("method", ECP)
def test_ecp_scalars_cover_the_whole_group_fips186_5_a_2_1(method: K) -> None:
    order = module._ECP[method][2]
    size = module._ECP[method][1]
    one = generate(method, lambda n: bytes(n))
    last = generate(method, lambda n: (order - 2).to_bytes(n, "big"))
    assert one.public[:size] == last.public[:size], "G and -G have one x"
    assert one.public[size:] != last.public[size:]
    assert generate(method, lambda n: (order - 1).to_bytes(n, "big")).public == one.public


@pytest.mark.parametrize(("method", "folder"), [(K.CURVE25519, "X25519"), (K.CURVE448, "X448")])
def test_montgomery_curves_give_the_known_answers_rfc7748_5_2(method: K, folder: str) -> None:
    cases = [r for r in records(f"asymmetric/{folder}/rfc7748.txt") if "input_scalar" in r]
    assert len(cases) >= 2
    for case in cases:
        ours = generate(method, lambda n, case=case: bytes.fromhex(case["input_scalar"])[:n])
        assert ours.shared(bytes.fromhex(case["input_u"])).hex() == case["output_u"]


P25519, P448 = 2**255 - 19, 2**448 - 2**224 - 1
SMALL_ORDER = [
    (K.CURVE25519, 0),
    (K.CURVE25519, 1),
    (K.CURVE25519, 325606250916557431795983626356110631294008115727848805560023387167927233504),
    (K.CURVE25519, 39382357235489614581723060781553021112529911719440698176882885853963445705823),
    (K.CURVE25519, P25519 - 1),
    (K.CURVE25519, P25519),
    (K.CURVE25519, P25519 + 1),
    (K.CURVE448, 0),
    (K.CURVE448, 1),
    (K.CURVE448, P448 - 1),
    (K.CURVE448, P448),
    (K.CURVE448, P448 + 1),
]


@pytest.mark.parametrize(("method", "value"), SMALL_ORDER)
def test_points_of_small_order_are_refused_rfc7748_6_rfc8031_3(method: K, value: int) -> None:
    ours = generate(method, seeded(1))
    with pytest.raises(InvalidKeyExchange, match="small order"):
        ours.shared(value.to_bytes(public_length(method), "little"))


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(METHODS), st.data())
def test_any_public_value_gives_a_secret_or_a_refusal(method: K, data: st.DataObject) -> None:
    ours = generate(method, seeded(1))
    length = public_length(method)
    value = data.draw(st.binary(min_size=length, max_size=length) | st.binary(max_size=600))
    try:
        assert len(ours.shared(value)) > 0
    except InvalidKeyExchange as refusal:
        assert method.name in str(refusal)


def test_none_exchanges_no_keys() -> None:
    with pytest.raises(ValueError, match="NONE"):
        generate(K.NONE, seeded(1))


@pytest.mark.parametrize("method", METHODS)
def test_private_values_are_not_shown(method: K) -> None:
    assert "private" not in repr(generate(method, seeded(1))).lower()


@pytest.mark.parametrize("method", [m for m in KeyExchangeMethod if m is not KeyExchangeMethod.NONE])
def test_a_responder_makes_no_private_value_for_an_invalid_one_rfc6989_2(method: KeyExchangeMethod) -> None:
    theirs = generate(method, Random(1).randbytes)
    public, secret = respond(method, Random(2).randbytes, theirs.public)
    assert secret == theirs.shared(public)

    def never(length: int) -> bytes:
        raise AssertionError(f"{length} bytes for a private value")

    size = public_length(method)
    invalid = [theirs.public[1:], theirs.public + b"\0"]
    if method not in (KeyExchangeMethod.CURVE25519, KeyExchangeMethod.CURVE448):  # there any value is a point
        invalid += [bytes(size), bytes(size - 1) + b"\1", b"\xff" * size]
    for value in invalid:
        with pytest.raises(InvalidKeyExchange):
            respond(method, never, value)
