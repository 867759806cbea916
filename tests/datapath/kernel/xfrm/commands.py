"""What ``capture.py`` has iproute2 send: a name and the words after ``ip xfrm``. ``meanings.py`` says what it means."""

from __future__ import annotations

EMPTY = "EMPTY"
"""Stands for an empty word."""

GCM = "aead rfc4106(gcm(aes)) 0x000102030405060708090a0b0c0d0e0f10111213 128"
V4 = "src 192.0.2.1 dst 192.0.2.2 proto esp spi 0xc0ffee01"
V6 = "src 2001:db8::1 dst 2001:db8::2 proto esp spi 0xc0ffee06"
AES256 = "0x" + bytes(range(32)).hex()
HMAC256 = "0x" + bytes(range(64, 96)).hex()
HMAC512 = "0x" + bytes(range(64, 128)).hex()
OUT4 = "src 10.1.0.0/24 dst 10.2.0.0/24 dir out"

COMMANDS: dict[str, str] = {
    # States: algorithms
    "state-add-gcm": f"state add {V4} {GCM} mode tunnel reqid 7",
    "state-add-chacha": f"state add {V4} aead rfc7539esp(chacha20,poly1305) {AES256}a0a1a2a3 128 mode tunnel",
    "state-add-ccm-64": f"state add {V4} aead rfc4309(ccm(aes)) 0x{'ab' * 19} 64 mode transport",
    "state-add-gmac": f"state add {V4} aead rfc4543(gcm(aes)) 0x{'5a' * 20} 128 mode tunnel",
    "state-add-cbc-sha256": f"state add {V4} enc cbc(aes) {AES256} auth-trunc hmac(sha256) {HMAC256} 128 mode tunnel",
    "state-add-cbc-sha512": f"state add {V4} enc cbc(aes) {AES256} auth-trunc hmac(sha512) {HMAC512} 256 mode tunnel",
    "state-add-auth-legacy": f"state add {V4} enc cbc(aes) 0x{'11' * 16} auth hmac(sha1) 0x{'22' * 20} mode tunnel",
    "state-add-ctr-xcbc": (
        f"state add {V4} enc rfc3686(ctr(aes)) 0x{'33' * 20} auth-trunc xcbc(aes) 0x{'44' * 16} 96 mode transport"
    ),
    "state-add-null": f"state add {V4} enc ecb(cipher_null) {EMPTY} auth-trunc hmac(sha256) {HMAC256} 128 mode tunnel",
    "state-add-ah": (
        "state add src 192.0.2.1 dst 192.0.2.2 proto ah spi 0x1001"
        f" auth-trunc hmac(sha384) 0x{'66' * 48} 192 mode tunnel"
    ),
    "state-add-comp": "state add src 192.0.2.1 dst 192.0.2.2 proto comp spi 0x1002 comp deflate mode tunnel",
    "state-add-route2": "state add src 2001:db8::1 dst 2001:db8::2 proto route2 coa 2001:db8::77 mode ro",
    "state-add-hao": "state add src 2001:db8::1 dst 2001:db8::2 proto hao coa 2001:db8::78 mode ro",
    # States: everything else
    "state-add-v6": f"state add {V6} {GCM} mode transport reqid 9 sel src 2001:db8::1/128 dst 2001:db8::2/128",
    "state-add-beet": f"state add {V4} {GCM} mode beet sel src 10.0.0.1 dst 10.0.0.2",
    "state-add-4-in-6": f"state add {V6} {GCM} mode tunnel sel src 10.1.0.0/16 dst 10.2.0.0/16",
    "state-add-window-32": f"state add {V4} {GCM} mode tunnel replay-window 32 replay-seq 0x11 replay-oseq 0x22",
    "state-add-window-128": f"state add {V4} {GCM} mode tunnel replay-window 128",
    "state-add-esn": f"state add {V4} {GCM} mode tunnel replay-window 64 flag esn",
    "state-add-esn-4096": (
        f"state add {V4} {GCM} mode tunnel replay-window 4096 flag esn"
        " replay-seq 0x1001 replay-oseq 0x1002 replay-seq-hi 0x3 replay-oseq-hi 0x4"
    ),
    "state-add-flags": (
        f"state add {V4} {GCM} mode tunnel flag noecn decap-dscp nopmtudisc wildrecv icmp af-unspec align4"
    ),
    "state-add-extra-flags": f"state add {V4} {GCM} extra-flag dont-encap-dscp oseq-may-wrap mode tunnel",
    "state-add-encap": f"state add {V4} {GCM} encap espinudp 4500 4501 0.0.0.0 mode tunnel",
    "state-add-encap-oa": f"state add {V4} {GCM} encap espinudp-nonike 500 501 198.51.100.1 mode tunnel",
    "state-add-encap-tcp": f"state add {V4} {GCM} encap espintcp 4500 4500 0.0.0.0 mode tunnel",
    "state-add-encap-v6": f"state add {V6} {GCM} encap espinudp 4500 4500 :: mode tunnel",
    "state-add-mark": f"state add {V4} {GCM} mark 0x15 mask 0xff mode tunnel",
    "state-add-mark-full": f"state add {V4} {GCM} mark 0xdeadbeef mode tunnel",
    "state-add-if-id": f"state add {V4} {GCM} mode tunnel if_id 0x42",
    "state-add-tfcpad": f"state add {V4} {GCM} mode tunnel tfcpad 1400",
    "state-add-output-mark": f"state add {V4} {GCM} mode tunnel output-mark 0x17",
    "state-add-output-mark-mask": f"state add {V4} {GCM} mode tunnel output-mark 0x17 mask 0xffff",
    "state-add-offload-crypto": f"state add {V4} {GCM} mode transport offload dev lo dir in",
    "state-add-offload-out": f"state add {V4} {GCM} mode transport offload dev lo dir out",
    "state-add-offload-packet": f"state add {V4} {GCM} mode tunnel offload packet dev lo dir in",
    "state-add-dir-in": f"state add {V4} {GCM} mode tunnel dir in",
    "state-add-dir-out": f"state add {V4} {GCM} mode tunnel dir out",
    "state-add-limits": (
        f"state add {V4} {GCM} mode tunnel limit time-soft 3000 limit time-hard 3600 limit time-use-soft 100"
        " limit time-use-hard 200 limit byte-soft 1000000 limit byte-hard 2000000"
        " limit packet-soft 5000 limit packet-hard 6000"
    ),
    "state-add-sel-ports": (
        f"state add {V4} {GCM} mode transport sel src 192.0.2.1 dst 192.0.2.2 proto udp sport 4000 dport 53"
    ),
    "state-add-sel-icmp": (
        f"state add {V4} {GCM} mode transport sel src 192.0.2.1 dst 192.0.2.2 proto icmp type 8 code 0"
    ),
    "state-add-sel-gre": (
        f"state add {V4} {GCM} mode transport sel src 192.0.2.1 dst 192.0.2.2 dev lo proto gre key 0x12345678"
    ),
    "state-add-seq": f"state add {V4} {GCM} mode tunnel seq 0x99 reqid 0xffffffff",
    "state-add-ctx": f"state add {V4} {GCM} ctx system_u:object_r:ipsec_spd_t:s0 mode tunnel",
    "state-add-everything": (
        f"state add {V4} {GCM} encap espinudp 4500 4500 0.0.0.0 mark 0x1 mask 0x3 extra-flag dont-encap-dscp"
        " mode tunnel reqid 3 replay-window 1024 flag esn decap-dscp sel src 10.0.0.0/8 dst 0.0.0.0/0"
        " limit byte-hard 99 output-mark 5 mask 0xf if_id 6 tfcpad 7"
    ),
    "state-add-everything-else": (
        f"state add {V4} enc cbc(aes) {AES256} auth-trunc hmac(sha256) {HMAC256} 128 mode transport"
        " ctx a:b:c mark 1 extra-flag oseq-may-wrap replay-window 32 replay-seq 1 offload packet dev lo dir out"
        " output-mark 5 if_id 6 tfcpad 7"
    ),
    "state-update": f"state update {V4} {GCM} mode tunnel reqid 7",
    # States: the rest
    "state-delete": f"state delete {V4}",
    "state-delete-mark": f"state delete {V4} mark 0x15 mask 0xff",
    "state-delete-v6": f"state delete {V6}",
    "state-delete-route2": "state delete src 2001:db8::1 dst 2001:db8::2 proto route2",
    "state-get": f"state get {V4}",
    "state-get-mark": f"state get {V6} mark 7",
    "state-list": "state list",
    "state-list-addresses": "state list src 192.0.2.0/24 dst 198.51.100.0/24 proto esp",
    "state-list-v6": "state list src 2001:db8::/32 proto ah",
    "state-flush": "state flush",
    "state-flush-esp": "state flush proto esp",
    "state-count": "state count",
    "state-allocspi": (
        "state allocspi src 192.0.2.1 dst 192.0.2.2 proto esp mode tunnel reqid 4 seq 0x5 min 0x100 max 0xffffffff"
    ),
    "state-allocspi-mark": "state allocspi src 192.0.2.1 dst 192.0.2.2 proto esp mark 3 mask 7 mode transport",
    "state-allocspi-dir": (
        "state allocspi src 192.0.2.1 dst 192.0.2.2 proto esp mode tunnel dir in min 0x100 max 0x200"
    ),
    # Policies
    "policy-add": (f"policy add {OUT4} priority 1000 tmpl src 192.0.2.1 dst 192.0.2.2 proto esp reqid 7 mode tunnel"),
    "policy-add-v6": (
        "policy add src 2001:db8:1::/48 dst 2001:db8:2::/48 dir in tmpl src 2001:db8::2 dst 2001:db8::1"
        " proto esp spi 0x10 reqid 8 mode tunnel"
    ),
    "policy-add-4-in-6": (f"policy add {OUT4} tmpl src 2001:db8::1 dst 2001:db8::2 proto esp mode tunnel"),
    "policy-add-fwd": (
        "policy add src 10.2.0.0/24 dst 10.1.0.0/24 dir fwd priority 5 tmpl src 192.0.2.2 dst 192.0.2.1"
        " proto esp reqid 7 mode tunnel level use"
    ),
    "policy-add-block": f"policy add {OUT4} action block priority 4294967295",
    "policy-add-allow": "policy add src 0.0.0.0/0 dst 0.0.0.0/0 proto udp dport 500 dir out action allow priority 1",
    "policy-add-ports": (
        "policy add src 10.1.0.1 dst 10.2.0.1 proto tcp sport 443 dport 8443 dir out"
        " tmpl proto esp mode transport reqid 1"
    ),
    "policy-add-icmp6": ("policy add src ::/0 dst ff02::1/128 proto ipv6-icmp type 135 code 0 dir out action allow"),
    "policy-add-two-templates": (
        f"policy add {OUT4} tmpl src 192.0.2.1 dst 192.0.2.2 proto comp mode tunnel level use"
        " tmpl proto esp mode transport"
    ),
    "policy-add-beet": f"policy add {OUT4} tmpl src 192.0.2.1 dst 192.0.2.2 proto esp mode beet",
    "policy-add-mark": f"policy add {OUT4} mark 0x2 mask 0xf tmpl src 192.0.2.1 dst 192.0.2.2 proto esp mode tunnel",
    "policy-add-if-id": f"policy add {OUT4} tmpl src 192.0.2.1 dst 192.0.2.2 proto esp mode tunnel if_id 0x42",
    "policy-add-index": f"policy add {OUT4} index 0x1001 tmpl proto esp mode transport",
    "policy-add-sub": f"policy add {OUT4} ptype sub tmpl proto esp mode transport",
    "policy-add-flags": f"policy add {OUT4} flag localok icmp tmpl proto esp mode transport",
    "policy-add-limits": (
        f"policy add {OUT4} limit time-soft 10 limit time-hard 20 limit time-use-soft 30 limit time-use-hard 40"
        " limit byte-soft 50 limit byte-hard 60 limit packet-soft 70 limit packet-hard 80 tmpl proto esp mode transport"
    ),
    "policy-add-dev": "policy add src 10.1.0.0/24 dst 10.2.0.0/24 dev lo dir out tmpl proto esp mode transport",
    "policy-add-host-bits": "policy add src 10.1.0.9/24 dst 10.2.0.9/24 dir out action block",
    "policy-add-offload": (
        f"policy add {OUT4} tmpl src 192.0.2.1 dst 192.0.2.2 proto esp mode tunnel reqid 7 offload packet dev lo"
    ),
    "policy-add-ctx": f"policy add {OUT4} ctx system_u:object_r:ipsec_spd_t:s0 tmpl proto esp mode transport",
    "policy-add-everything": (
        f"policy add {OUT4} ctx a:b:c mark 1 ptype sub priority 7 if_id 3 tmpl proto esp mode transport"
        " offload packet dev lo"
    ),
    "policy-update": f"policy update {OUT4} priority 1001 tmpl src 192.0.2.1 dst 192.0.2.2 proto esp mode tunnel",
    "policy-delete": f"policy delete {OUT4}",
    "policy-delete-index": "policy delete index 0x1001 dir out",
    "policy-delete-mark-if-id": f"policy delete {OUT4} mark 0x2 mask 0xf if_id 0x42",
    "policy-delete-sub": f"policy delete {OUT4} ptype sub",
    "policy-get": f"policy get {OUT4}",
    "policy-get-index": "policy get index 0x1001 dir out",
    "policy-list": "policy list",
    "policy-flush": "policy flush",
    "policy-flush-sub": "policy flush ptype sub",
    "policy-count": "policy count",
    "policy-set-hthresh": "policy set hthresh4 24 32 hthresh6 64 128",
    "policy-setdefault": "policy setdefault in block fwd block out accept",
    "policy-setdefault-one": "policy setdefault out block",
    "policy-getdefault": "policy getdefault",
}
