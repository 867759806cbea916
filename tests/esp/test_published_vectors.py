"""The transforms against the test vectors that RFCs, a draft of McGrew's and NIST published."""

from __future__ import annotations

from dataclasses import dataclass

import cryptography_vectors
import pytest

from appliance.esp.aead import aes_gcm_16, chacha20_poly1305
from appliance.esp.hmac_sha2 import HMACS, HmacSha2, HmacSpec
from appliance.esp.mac_suite import AesCbc
from appliance.esp.trailer import append_trailer, strip_trailer
from appliance.esp.transform import transform


@dataclass(frozen=True)
class CbcPacket:
    """One of the ESP packets of RFC 3602 §4: no ICV, plaintext without trailer."""

    key: str
    packet: str
    payload: str
    next_header: int


RFC_3602 = {
    "case 5, transport": CbcPacket(
        "90d382b410eeba7ad938c46cec1a82bf",
        "0000432100000001e96e8c08ab465763fd098d45dd3ff893f663c25d325c18c6a9453e194e120849a4870b66cc6b9965330013b4898dc856"
        "a4699e523a55db080b59ec3a8e4b7e52775b07d1db34ed9c538ab50c551b874aa269add047ad2d5913ac19b7cfbad4a6",
        "08000ebda70a00008e9c083db95b070008090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f"
        "3031323334353637",
        1,
    ),
    "case 6, transport": CbcPacket(
        "90d382b410eeba7ad938c46cec1a82bf",
        "000043210000000869d08df7d203329db093fc4924e5bd80f51995881ec4e0c4488987ce742e8109689bb379d2d750c0d915dca346a89f75",
        "0800b5e8a80a0500a69c083d0b660e00777777777777777777777777",
        1,
    ),
    "case 7, tunnel": CbcPacket(
        "0123456789abcdef0123456789abcdef",
        "0000876500000002f4e765244f6407adf13dc1380f673f37773b5241a4c449225e4f3ce5ed611b0c237ca96cf74a93013c1b0ea1a0cf70f8"
        "e4ecaec78ac53aad7a0f022b859243c647752e94a859352b8a4d4d2decd136e5c177f132ad3fbfb2201ac9904c74ee0a109e0ca1e4dfe9d5"
        "a100b842f1c22f0d",
        "45000054090400004001f988c0a87b03c0a87bc808009f76a90a0100b49c083d02a2040008090a0b0c0d0e0f101112131415161718191a1b"
        "1c1d1e1f202122232425262728292a2b2c2d2e2f3031323334353637",
        4,
    ),
    "case 8, tunnel": CbcPacket(
        "0123456789abcdef0123456789abcdef",
        "000087650000000585d47224b5f3dd5d2101d4ea8dffab2215b92683819596a8047232cc00f7048fe45318e11f8a0f62ede3c3fc61203bb5"
        "0f980a08c9843fd3a1b06d5c07ff9639b7eb7dfb3512e5de435e7207ed971ef3d2726d9b5ef6affc6d17a0decbb13892",
        "45000044090c00004001f990c0a87b03c0a87bc80800d63caa0a0200c69c083da3de0300ffffffffffffffffffffffffffffffffffffffff"
        "ffffffffffffffffffffffff",
        4,
    ),
}


@pytest.mark.parametrize("case", RFC_3602.values(), ids=RFC_3602)
def test_aes_cbc_makes_and_reads_the_packets_of_rfc3602_4(case: CbcPacket) -> None:
    cipher = AesCbc(bytes.fromhex(case.key))
    packet, payload = bytes.fromhex(case.packet), bytes.fromhex(case.payload)
    iv, ciphertext = packet[8:24], packet[24:]
    assert cipher.encrypt(iv, append_trailer(payload, case.next_header, cipher.alignment)) == ciphertext
    assert strip_trailer(cipher.decrypt(iv, ciphertext)) == (case.next_header, payload)


def test_chacha20_poly1305_makes_and_reads_the_packet_of_rfc7634_appendix_a() -> None:
    payload = bytes.fromhex(
        "45000054a6f200004001e778c6336405c000020508005b7a3a080000553bec100007362708090a0b0c0d0e0f101112131415161718191a1b"
        "1c1d1e1f202122232425262728292a2b2c2d2e2f3031323334353637"
    )
    packet = bytes.fromhex(
        "0102030400000005"
        "1011121314151617"
        "24039428b97f417e3c13753a4f05087b67c352e6a7fab1b982d466ef407ae5c614ee8099d52844eb61aa95dfab4c02f72aa71e7c4c4f64c9"
        "befe2facc638e8f3cbec163fac469b502773f6fb94e664da9165b82829f641e0"
        "76aaa8266b7fb0f7b11b369907e1ad43"
    )
    cipher = chacha20_poly1305(bytes(range(0x80, 0xA4)))
    plaintext = append_trailer(payload, 4, cipher.alignment)
    assert cipher.seal(packet[:8], b"", packet[8:16], plaintext) == packet
    assert strip_trailer(cipher.open(packet, b"")) == (4, payload)


@dataclass(frozen=True)
class GcmPacket:
    """One case of draft-mcgrew-gcm-test-01: AAD is SPI and sequence number (12 bytes with ESN)."""

    key: str
    salt: str
    associated: str
    iv: str
    plaintext: str
    sealed: str


_A = "4c80cdefbb5d10da906ac73c3613a634"
_B = "3de09874b388e6491988d0c3607eae1f"
_C = "abbccddef00112233445566778899aab"
MCGREW = (
    GcmPacket(
        _A,
        "2e443b68",
        "000043218765432100000000",
        "4956ed7e3b244cfe",
        "45000048699a000080114db7c0a80102c0a801010a9bf15638d301000001000000000000045f736970045f75647003736970096379626572"
        "6369747902646b000021000101020201",
        "fecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34cfa2436f14a3f3cf65925bf1f4a13c5d15b21e1884f5ff62"
        "47aeabb786b93bce61bc17d768fd9732459018148f6cbe722fd04796562dfdb4",
    ),
    GcmPacket(
        "feffe9928665731c6d6a8f9467308308feffe9928665731c",
        "cafebabe",
        "0000a5f80000000a",
        "facedbaddecaf888",
        "45000028a4ad4000400678800a01038f0a010612802306b8cb712602dd6bb03e501016d075680001",
        "a5b1f8066029aea40e598b8122de02420938b3ab33f828e687b8858b5bfbdbd0315b27452144cc7795457b9652037f5318027b5b4cd7a636",
    ),
    GcmPacket(
        _C + _C,
        "11223344",
        "4a2cbfe300000002",
        "0102030405060708",
        "4500003069a6400080062690c0a801029389155e0a9e008b2dc57ee0000000007002400020bf0000020405b40101040201020201",
        "ff425c9b724599df7a3bcd510194e00d6a78107f1b0b1cbf06efae9d65a5d763748a637985771d347f0545659f14e99def842d8e"
        "b335f4eecfdbf831824b4c4915956c96",
    ),
    GcmPacket(
        "00" * 16,
        "00000000",
        "0000000000000001",
        "0000000000000000",
        "4500003c99c500008001cb7a40679318010101010800075c02004400616263646566676869"
        "6a6b6c6d6e6f707172737475767761626364656667686901020201",
        "4688daf2f973a392732909c331d56d60f694abaa414b5e7ff5fdcdfff5e9a284456476492719ffb64de7d9dca1e1d894bc3bd57873ed4d18"
        "1d19d4d5c8c18af3f821d496eeb096e98ad2b69e4799c71d",
    ),
    GcmPacket(
        _B,
        "57690e43",
        "42f67e3f1010101010101010",
        "4e280000a2fca1a3",
        "4500003c99c300008001cb7c40679318010101010800085c02004300616263646566676869"
        "6a6b6c6d6e6f707172737475767761626364656667686901020201",
        "fba2caa4853cf9f0f22cb10d86dd83b0fec75691cf1a04b00d1138ec9c35791765acbd8701ad79845bf9fe3fba487bc91755e6662b4c8d0d"
        "1f5e22739530320ae0d731cc978ecafaeae88f00e80d6e48",
    ),
    GcmPacket(
        _B,
        "57690e43",
        "42f67e3f1010101010101010",
        "4e280000a2fca1a3",
        "4500001c42a200008001441f406793b6e00000020a00f5ff01020201",
        "fba2ca845e5df9f0f22c3e6e86dd831e1fc65792cd1af9130e1379ed369f071f35e034be95f112e4e7d05d35",
    ),
    GcmPacket(
        _C,
        "decaf888",
        "000001000000000000000001",
        "cafedebaceface74",
        "4500004933ba00007f119106c3fb1d10c2b1d326c02831ce0035dd7b800302d500004e20001e8c18d75b81dc91baa0476b91b924b280389d"
        "92c963bac046ec959b6266c04722b14923010101",
        "18a6fd42f72cbf4ab2a2ea901f73d814e3e7f243d95412e1c349c1d2fbec168f9190feebaf2cb01984e65863965d7472b79da345e0e78019"
        "1f0d2f0e0f496c226f2127b27db35724e7845d68651f57e65f354f75ff17015769623436",
    ),
    GcmPacket(
        _C,
        "decaf888",
        "000001000000000000000001",
        "cafedebaceface74",
        "746f016265016f72016e6f7401746f0162650001",
        "29c9fc69a197d038ccdd14e2ddfcaa0543332164412503524303ed3c6c5f283843af8c3e",
    ),
    GcmPacket(
        _A,
        "22433c64",
        "000043218765432100000007",
        "4855ec7d3a234bfd",
        "0800c6cd020007006162636465666768696a6b6c6d6e6f707172737401020201",
        "74752e8aeb5d873cd7c0f4acc36c4bff84b7d7b98f0ca8b6acda6894bc619069ef9cbc28fe1b56a7c4e0d58c86cd2bc0",
    ),
    GcmPacket(
        _C + _C,
        "73616c74",
        "17405e67156f3126dd0db99b",
        "616e640169766563",
        "45080028732c00004006e9f90a0106120a01038f06b88023dd6bafbecb71260250101f646d540001",
        "f2d69ecdbd5a0d5b8d5ef38bad4da58d1f278fde98ef67549d524a3018d9a57ff4d3a31ce673119e451626c2415771e3b7eebca614c89b35",
    ),
    GcmPacket(
        "6c6567616c697a656d6172696a75616e61616e64646f69746265666f72656961",
        "7475726e",
        "796b6963ffffffffffffffff",
        "333021696765746d",
        "45000030da3a00008001df3bc0a80005c0a800010800c6cd020007006162636465666768696a6b6c6d6e6f707172737401020201",
        "f97ab2aa356d8edce17644ac8c78e25dd24dedbb29ebf1b64a274b39b49c3a864cd3d78ca4ae68a32b42458fb57dbe821dcc63b9d0937ba2"
        "945f669368661a329fb4c053",
    ),
    GcmPacket(
        "7d773d00c144c525ac619d18c84a3f47",
        "d9664267",
        "335467aeffffffff",
        "43457e9182443bc6",
        "01020201",
        "437f866bcb3f699fe9b0822bac961c4504bef270",
    ),
)


@pytest.mark.parametrize("case", MCGREW, ids=[f"case{number}" for number in range(len(MCGREW))])
def test_aes_gcm_makes_and_reads_the_packets_of_draft_mcgrew_gcm_test(case: GcmPacket) -> None:
    cipher = aes_gcm_16(bytes.fromhex(case.key + case.salt))
    associated = bytes.fromhex(case.associated)
    high = associated[4:8] if len(associated) == 12 else b""
    header = associated[:4] + associated[-4:]
    iv, plaintext = bytes.fromhex(case.iv), bytes.fromhex(case.plaintext)
    packet = header + iv + bytes.fromhex(case.sealed)
    assert cipher.seal(header, high, iv, plaintext) == packet
    assert cipher.open(packet, high) == plaintext
    next_header, payload = strip_trailer(plaintext)
    assert append_trailer(payload, next_header, cipher.alignment) == plaintext


# RFC 4868 §2.7.2: number of the algorithm, key, data, ICV.
RFC_4868 = {
    "AUTH256-1": (12, b"\x0b" * 32, b"Hi There", "198a607eb44bfbc69903a0f1cf2bbdc5"),
    "AUTH256-2": (12, b"Jefe" * 8, b"what do ya want for nothing?", "167f928588c5cc2eef8e3093caa0e87c"),
    "AUTH384-1": (13, b"\x0b" * 48, b"Hi There", "b6a8d5636f5c6a7224f9977dcf7ee6c7fb6d0c48cbdee973"),
    "AUTH512-1": (
        14,
        b"\x0b" * 64,
        b"Hi There",
        "637edc6e01dce7e6742a99451aae82df23da3e92439e590e43e761b33e910fb8",
    ),
}


@pytest.mark.parametrize("case", RFC_4868.values(), ids=RFC_4868)
def test_hmac_sha2_gives_the_icv_of_rfc4868_2_7_2(case: tuple[int, bytes, bytes, str]) -> None:
    number, key, data, icv = case
    hmac = HmacSha2(HMACS[number], key)
    assert hmac.icv(data).hex() == icv
    assert hmac.icv(data[:3], data[3:]).hex() == icv
    hmac.verify(bytes.fromhex(icv), data)


@pytest.mark.parametrize("number", HMACS)
def test_hmac_sha2_agrees_with_rfc4231_4(number: int) -> None:
    hash_ = HMACS[number].hash
    cases: list[dict[str, str]] = []
    with cryptography_vectors.open_vector_file(f"HMAC/rfc-4231-{hash_.name}.txt", "r") as file:
        for line in file:
            name, equals, value = (part.strip() for part in line.partition("="))
            if name == "Len":
                cases.append({})
            elif equals:
                cases[-1][name] = value
    assert len(cases) >= 5
    for case in cases:
        key, message = bytes.fromhex(case["Key"]), bytes.fromhex(case["Msg"])
        # Keys of other lengths than the hash's, which RFC 4868 §2.1.1 forbids in ESP, and outputs that are not cut.
        hmac = HmacSha2(HmacSpec("RFC 4231", hash_, len(key), hash_.digest_size), key)
        assert hmac.icv(message).hex() == case["MD"]


def _response_file(*path: str) -> list[dict[str, str]]:
    """The cases of a NIST CAVP file, each with the bracketed settings that precede it. FAIL cases have the key FAIL."""
    cases: list[dict[str, str]] = []
    settings: dict[str, str] = {}
    with cryptography_vectors.open_vector_file("/".join(("ciphers", "AES", *path)), "r") as file:
        for raw in file:
            line = raw.strip()
            name, equals, value = (part.strip() for part in line.partition("="))
            if line.startswith("["):
                settings[name.strip("[] ")] = value.strip("] ")
            elif name.lower() == "count":
                cases.append(dict(settings))
            elif line == "FAIL":
                cases[-1]["FAIL"] = ""
            elif equals and cases:
                cases[-1][name] = value
    return cases


@pytest.mark.parametrize("bits", [128, 192, 256])
@pytest.mark.parametrize("kind", ["gcmEncryptExtIV", "gcmDecrypt"])
def test_aes_gcm_agrees_with_nist_cavp_rfc4106(kind: str, bits: int) -> None:
    tried = 0
    for case in _response_file("GCM", f"{kind}{bits}.rsp"):
        # What ESP uses: nonces of 12 bytes and tags of 16.
        if case["IVlen"] != "96" or case["Taglen"] != "128" or "FAIL" in case:
            continue
        nonce, associated = bytes.fromhex(case["IV"]), bytes.fromhex(case["AAD"])
        cipher = aes_gcm_16(bytes.fromhex(case["Key"]) + nonce[:4])
        # The transform's AAD is what it is given as header, of any length here.
        expected = associated + nonce[4:] + bytes.fromhex(case["CT"] + case["Tag"])
        assert cipher.seal(associated, b"", nonce[4:], bytes.fromhex(case["PT"])) == expected
        tried += 1
    assert tried >= 150


@pytest.mark.parametrize("bits", [128, 192, 256])
def test_aes_cbc_agrees_with_nist_cavp_rfc3602(bits: int) -> None:
    cases = _response_file("CBC", f"CBCMMT{bits}.rsp")
    assert len(cases) == 20
    for case in cases:
        cipher = AesCbc(bytes.fromhex(case["KEY"]))
        iv, plaintext, ciphertext = (bytes.fromhex(case[name]) for name in ("IV", "PLAINTEXT", "CIPHERTEXT"))
        assert cipher.encrypt(iv, plaintext) == ciphertext
        assert cipher.decrypt(iv, ciphertext) == plaintext


def test_null_with_hmac_leaves_the_payload_readable_and_authenticates_it_rfc2410() -> None:
    key = b"\x0b" * 32
    suite = transform(11, 12, b"", key)
    packet = suite.seal(b"\0\0\1\0\0\0\0\1", b"", b"", b"Hi There")
    assert packet[:16] == b"\0\0\1\0\0\0\0\1Hi There"
    assert packet[16:] == HmacSha2(HMACS[12], key).icv(packet[:16])
    assert suite.open(packet, b"") == b"Hi There"
