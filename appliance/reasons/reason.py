"""Generated from reasons.toml by ``python -m appliance.reasons.generate``. Do not edit."""

from __future__ import annotations

from enum import Enum


class Reason(Enum):
    """Why a packet was dropped, a request refused, or something failed. The value is the code."""

    NO_POLICY = 1
    POLICY_DISCARD = 2
    NO_SA = 3
    UNKNOWN_SPI = 4
    REPLAYED = 5
    INTEGRITY = 6
    MALFORMED_ESP = 7
    SELECTOR_MISMATCH = 8
    MALFORMED_IP = 9
    TOO_BIG = 10
    SEQUENCE_EXHAUSTED = 11
    LIFETIME_EXPIRED = 12
    TTL_EXPIRED = 13
    OWN_TRAFFIC = 14
    DUMMY = 15
    QUEUE_FULL = 16
    FRAGMENT = 17
    NO_MEMORY = 18
    SEND_FAILED = 19
    ECN_NOT_CAPABLE = 20
    ESP_FRAGMENT = 21
    LINK_SCOPE = 22
    ALGORITHM_UNSUPPORTED = 128
    MODE_UNSUPPORTED = 129
    ALREADY_INSTALLED = 130
    NOT_INSTALLED = 131
    BAD_KEY = 132
    TABLE_FULL = 133
    DATAPATH_GONE = 134
    DATAPATH_TIMEOUT = 135
    NO_TUN = 136
    NO_PRIVILEGE = 137
    PORT_IN_USE = 138
    NO_NFTABLES = 139
    BAD_ADDRESS = 140
    INTERNAL = 141
    REPLAY_WINDOW_UNSUPPORTED = 142
    NO_XFRM = 143
    NO_KERNEL_ESP = 144
    KERNEL_TOO_OLD = 145
    KERNEL_REFUSED = 146
    NO_OFFLOAD_DEVICE = 147
    OFFLOAD_UNSUPPORTED = 148
    OFFLOAD_REFUSED = 149
    OFFLOAD_NOT_DONE = 150
    SELECTORS_UNSUPPORTED = 151
    PINNED = 152
    INTERFACE_UNSUPPORTED = 153
    MOVE_UNSUPPORTED = 154
    SA_VANISHED = 155
    CHANGED_FROM_OUTSIDE = 156
    INTERFACE_TAKEN = 157
    BETTER_DATAPATH = 158
    POLICY_ELSEWHERE = 159
    LEFT_BEHIND = 160
    AUTH_PSK_MISMATCH = 200
    AUTH_IDENTITY_MISMATCH = 201
    AUTH_IDENTITY_INVALID = 202
    AUTH_METHOD_MISMATCH = 203
    AUTH_METHOD_UNSUPPORTED = 204
    AUTH_KEY_MISMATCH = 205
    AUTH_ALGORITHM_WEAK = 206
    AUTH_ALGORITHM_UNSUPPORTED = 207
    AUTH_SIGNATURE_INVALID = 208
    AUTH_MALFORMED = 209
    AUTH_NO_COMMON_ALGORITHM = 210
    CERT_MISSING = 215
    CERT_MALFORMED = 216
    CERT_ENCODING_UNSUPPORTED = 217
    CERT_TOO_MANY = 218
    CERT_EXPIRED = 219
    CERT_NOT_YET_VALID = 220
    CERT_UNKNOWN_ISSUER = 221
    CERT_BAD_SIGNATURE = 222
    CERT_KEY_USAGE = 223
    CERT_EXTENDED_KEY_USAGE = 224
    CERT_NOT_CA = 225
    CERT_PATH_LENGTH = 226
    CERT_NAME_CONSTRAINTS = 227
    CERT_CRITICAL_EXTENSION = 228
    CERT_WEAK = 229
    CERT_IDENTITY_MISSING = 230
    CERT_NAME_UNSAFE = 231
    NO_PROPOSAL_CHOSEN = 250
    TS_UNACCEPTABLE = 251
    PEER_SILENT = 252
    PEER_REFUSED_AUTHENTICATION = 253
    INVALID_SYNTAX = 254
    INVALID_KE_PAYLOAD = 255
    PEER_BUSY = 256
    CHILD_SA_NOT_FOUND = 257
    NO_CONNECTION = 258
    COOKIE_LOOP = 259
    HALF_OPEN_LIMIT = 260
    DELETED_BY_PEER = 261
    REPLACED = 262
    TERMINATED = 263
    LIFETIME_OVER = 264
    REKEYED = 265
    SINGLE_PAIR_REQUIRED = 266
    NO_ADDITIONAL_SAS = 267
    UNSUPPORTED_CRITICAL_PAYLOAD = 268
    INVALID_MAJOR_VERSION = 269
    CONFIGURATION_CHANGED = 270
    DUPLICATE_IKE_SA = 271
    UNKNOWN_IKE_SPI = 272
    OUTSIDE_WINDOW = 273
    PEER_ERROR = 274
    MESSAGE_UNVERIFIED = 275
    UNEXPECTED_MESSAGE = 276
    HALF_OPEN_PER_ADDRESS = 277
    IKE_SA_LIMIT = 278
    CONFIG_INVALID = 300
    CONFIG_UNREADABLE = 301
    CONFIG_SYNTAX = 302
    CONFIG_SCHEMA = 303
    CONFIG_UNKNOWN_KEY = 304
    CONFIG_MISSING_KEY = 305
    CONFIG_TYPE = 306
    CONFIG_UNIT = 307
    CONFIG_VALUE = 308
    CONFIG_NAME = 309
    CONFIG_PROPOSAL = 310
    CONFIG_SELECTOR = 311
    CONFIG_CONFLICT = 312
    CONFIG_OVERLAP = 313
    CONFIG_LIFETIME = 314
    CONFIG_CREDENTIAL = 315
    CONFIG_SIDES = 316
    CREDENTIAL_MISSING = 340
    CREDENTIAL_UNREADABLE = 341
    CREDENTIAL_EXPOSED = 342
    CREDENTIAL_FORMAT = 343
    CREDENTIAL_ENCRYPTED = 344
    CREDENTIAL_MISMATCH = 345
    CREDENTIAL_EMPTY = 346
    CREDENTIAL_WEAK = 347
    CREDENTIAL_EXPIRED = 348
    CREDENTIAL_IDENTITY = 349
    CREDENTIAL_GUESSABLE = 350
    NOT_UP = 400
    DAEMON_RUNS = 401
    RESTART_NEEDED = 402
    CONTROL_BUSY = 403
    STOPPING = 404
    CONTROL_NO_SOCKET = 450
    CONTROL_DEAD = 451
    CONTROL_DENIED = 452
    CONTROL_TIMEOUT = 453
    CONTROL_CLOSED = 454
    CONTROL_BAD_REQUEST = 455
    CONTROL_UNKNOWN_CALL = 456
    CONTROL_BAD_ANSWER = 457
    UNKNOWN_NAME = 458
    NOT_INSTALLED_PART = 459

    @property
    def kind(self) -> str:
        """One of drop, refusal, failure."""
        return _TEXT[self.value][0]

    @property
    def words(self) -> str:
        """What happened, for a person."""
        return _TEXT[self.value][1]

    @property
    def remedy(self) -> str:
        """What that person can do."""
        return _TEXT[self.value][2]


_TEXT: dict[int, tuple[str, str, str]] = {
    1: (
        "drop",
        "no policy matches the packet",
        "add a child or a bypass policy whose selectors cover it, or leave it dropped",
    ),
    2: (
        "drop",
        "a discard policy matches the packet",
        "none is needed if that was meant; else change the policy's order or selectors",
    ),
    3: (
        "drop",
        "a policy protects the packet and no SA is up for it",
        "see why the child is down: esplanade show connections",
    ),
    4: (
        "drop",
        "an ESP packet names an SPI that is not installed",
        "the peer has an SA that this side lost; it goes when the peer notices, or rekey from there",
    ),
    5: (
        "drop",
        "the sequence number was seen before or is left of the replay window",
        "a wider replay_window if the network reorders much; else somebody replays packets",
    ),
    6: (
        "drop",
        "the ICV does not verify",
        "forged or damaged packets, or keys that differ; rekey the child",
    ),
    7: (
        "drop",
        "the ESP packet is too short or its padding or next header is wrong",
        "look at the peer's implementation",
    ),
    8: (
        "drop",
        "the decrypted packet is outside the SA's traffic selectors",
        "make both sides' selectors the same",
    ),
    9: (
        "drop",
        "the IP packet's header is damaged",
        "look at the sender",
    ),
    10: (
        "drop",
        "the packet is longer than its path or its datapath takes; a sender that may be told was told",
        "let ICMP through to the sender, or clamp its MSS",
    ),
    11: (
        "drop",
        "the SA's sequence numbers are used up",
        "rekey the child; use ESN",
    ),
    12: (
        "drop",
        "the SA's hard lifetime is over",
        "see why the rekey did not succeed: esplanade show log",
    ),
    13: (
        "drop",
        "the packet's TTL or hop limit ran out; its sender was told",
        "look for a routing loop",
    ),
    14: (
        "drop",
        "one of our own IKE or ESP packets came back for encryption",
        "look for a route that leads the peer's address into the tunnel",
    ),
    15: (
        "drop",
        "a dummy packet for traffic-flow confidentiality (next header 59)",
        "none is needed",
    ),
    16: (
        "drop",
        "more packets came than could be sent",
        "the machine is at its limit; a faster datapath takes more",
    ),
    17: (
        "drop",
        "a fragment cannot be matched with its ports",
        "let the first fragment come first, or use selectors without ports",
    ),
    18: (
        "drop",
        "a bounded table is full",
        "see which: esplanade show counters",
    ),
    19: (
        "drop",
        "the kernel did not take the packet",
        "see the log for its error; look at routes and interfaces",
    ),
    20: (
        "drop",
        "congestion was marked on the outer header of a packet whose transport cannot be told (RFC 6040 §4.2)",
        "none is needed; if it lasts, set the peer not to copy ECN, or look at who marks packets between the gateways",
    ),
    21: (
        "drop",
        "ESP takes whole datagrams, and this is a fragment (RFC 4303 §3.3.4 and §3.4.1)",
        "lower the MTU so that nothing is fragmented, or use tunnel mode, which carries fragments as they are",
    ),
    22: (
        "drop",
        "the packet belongs to its own link and is not for a tunnel",
        "none is needed",
    ),
    128: (
        "refusal",
        "the datapath has no such algorithm",
        "choose other esp_proposals, or put a datapath that has it into datapath.order",
    ),
    129: (
        "refusal",
        "the datapath cannot do this mode or encapsulation",
        "see what it can: esplanade show datapath",
    ),
    130: (
        "refusal",
        "an SA with this SPI and destination is installed",
        "this is a fault of the control plane; report it with: esplanade show log",
    ),
    131: (
        "refusal",
        "there is no such SA or policy",
        "see what there is: esplanade show sa",
    ),
    132: (
        "refusal",
        "the key material does not fit the algorithm",
        "this is a fault of the control plane; report it with: esplanade show log",
    ),
    133: (
        "refusal",
        "the datapath has no room for another SA",
        "put a datapath with room behind it into datapath.order; where a network device is full, set offload to auto",
    ),
    134: (
        "failure",
        "the datapath's process or device is gone",
        "it is started again and its children are negotiated anew; see esplanade show log",
    ),
    135: (
        "failure",
        "the datapath did not answer in time",
        "see esplanade show log",
    ),
    136: (
        "refusal",
        "no TUN device can be made",
        "load the module (modprobe tun), see that /dev/net/tun is there, and run as root",
    ),
    137: (
        "refusal",
        "a privilege is missing",
        "run as root, or with CAP_NET_ADMIN and CAP_NET_RAW",
    ),
    138: (
        "refusal",
        "another program has the UDP port",
        "stop the other IKE daemon (ss -ulpn shows which)",
    ),
    139: (
        "refusal",
        "nftables cannot be used",
        "install the package nftables and load nf_tables",
    ),
    140: (
        "refusal",
        "the local address is not on this machine",
        "add the address to an interface, or change local.address",
    ),
    141: (
        "failure",
        "an error of the program itself",
        "report it with: esplanade show log",
    ),
    142: (
        "refusal",
        "the replay window has a size that is not supported",
        "set replay_window to 64 to 4096 packets",
    ),
    143: (
        "refusal",
        "this kernel has no IPsec (CONFIG_XFRM_USER)",
        "use a kernel with XFRM, such as Debian's, or take kernel out of datapath.order",
    ),
    144: (
        "refusal",
        "this kernel has no ESP (CONFIG_INET_ESP, CONFIG_INET6_ESP)",
        "load esp4 and esp6, or use a kernel that has them; soft carries ESP without",
    ),
    145: (
        "refusal",
        "this kernel is too old for it",
        "run a kernel of the version named, or do without",
    ),
    146: (
        "refusal",
        "the kernel refuses",
        "its own words say why; see also dmesg",
    ),
    147: (
        "refusal",
        "there is no network device to offload to",
        "name one that is there in offload_device, or see which interface leads to the peer: ip route get ADDRESS",
    ),
    148: (
        "refusal",
        "the network device has no such IPsec offload",
        "see what it can do: esplanade show offload; or set offload to auto, crypto or none",
    ),
    149: (
        "refusal",
        "the network device refuses to take the SA",
        "its own words say why: change what it names, or set offload to auto or none",
    ),
    150: (
        "refusal",
        "the kernel took the SA but not its offload, and said nothing",
        "see what the device can do: esplanade show offload; or set offload to auto or none",
    ),
    151: (
        "refusal",
        "the datapath cannot say the traffic selectors as finely",
        "use networks, single ports or all ports, or another datapath",
    ),
    152: (
        "refusal",
        "the child is pinned to another datapath",
        "take datapath out of the child to let datapath.order choose",
    ),
    153: (
        "refusal",
        "the datapath has no tunnel interfaces",
        "put kernel into datapath.order, or take interface out of the child",
    ),
    154: (
        "refusal",
        "the datapath does not move an SA to another address",
        "none is needed: the child is rekeyed instead",
    ),
    155: (
        "failure",
        "the SA is gone from the datapath, and not by Esplanade's doing",
        "none is needed: it is replaced; see who removed it (ip xfrm monitor), or what became of its network device",
    ),
    156: (
        "failure",
        "another program changed an SA or a policy of Esplanade's",
        "none is needed: it is put right; keep ip xfrm and other IPsec programs away from it",
    ),
    157: (
        "refusal",
        "an interface of that name is there and is not Esplanade's",
        "choose another name, or remove the interface: ip link delete NAME",
    ),
    158: (
        "refusal",
        "a datapath before it in the order can take the child again",
        "none is needed: the child is rekeyed to move there",
    ),
    159: (
        "refusal",
        "other SAs of the same policy run in another datapath, and a policy has but one",
        "none is needed: new ones go there too; what has to run elsewhere needs a child of its own",
    ),
    160: (
        "failure",
        "an earlier daemon was killed and left SAs in the kernel",
        "none is needed: they carry traffic until they are replaced, for datapath.kernel.survivors at most",
    ),
    200: (
        "failure",
        "the peer's AUTH does not verify with the pre-shared key",
        "give both sides the same psk; look for blanks or a line end in psk_file",
    ),
    201: (
        "failure",
        "the peer's identity is not the one that is expected",
        "make remote.id what the peer sends, or the peer's local id what is expected here",
    ),
    202: (
        "failure",
        "the peer's identity cannot be used: it is malformed, or of a type that names nobody",
        "look at the peer's local id",
    ),
    203: (
        "failure",
        "the peer authenticated by another method than remote.auth wants",
        "make remote.auth here and the auth of the peer's local side the same",
    ),
    204: (
        "failure",
        "the peer's authentication method is not known here",
        "let the peer use a pre-shared key, RSA, ECDSA, Ed25519 or Ed448",
    ),
    205: (
        "failure",
        "the peer's signature algorithm does not fit the key of its certificate",
        "look at the peer's certificate and its authentication settings",
    ),
    206: (
        "failure",
        "an authentication would need SHA-1, which is not allowed",
        "let both sides use RFC 7427 signatures (signature_authentication in strongSwan)",
    ),
    207: (
        "failure",
        "the algorithm of the peer's signature is not known here",
        "let the peer sign with RSA, ECDSA, Ed25519 or Ed448 and a hash of SHA-2",
    ),
    208: (
        "failure",
        "the peer's signature does not verify with the key of its certificate",
        "the peer's private key is another one, or somebody altered the handshake",
    ),
    209: (
        "failure",
        "the peer's AUTH payload is malformed",
        "look at the peer's implementation",
    ),
    210: (
        "failure",
        "the local key can make no signature that the peer accepts",
        "use a key of another type, or let the peer accept RFC 7427 signatures and more hashes",
    ),
    215: (
        "failure",
        "the peer sent no certificate",
        "let the peer send its certificate (send_cert = always in strongSwan)",
    ),
    216: (
        "failure",
        "a certificate of the peer cannot be read",
        "look at the peer's certificate files",
    ),
    217: (
        "failure",
        "the peer's certificate comes in an encoding that is not taken, such as hash and URL",
        "let the peer send X.509 certificates",
    ),
    218: (
        "failure",
        "the peer sent more or larger certificates than are looked at",
        "let the peer send its own certificate and those of its issuers only",
    ),
    219: (
        "failure",
        "a certificate has expired",
        "renew that certificate; see that the clocks are right",
    ),
    220: (
        "failure",
        "a certificate is not valid yet",
        "see that the clocks are right; or wait",
    ),
    221: (
        "failure",
        "no path leads from the peer's certificate to a trusted CA",
        "put the issuing CA into remote.ca, or let the peer send the missing intermediate certificate",
    ),
    222: (
        "failure",
        "a certificate was not signed by the key of the CA it names",
        "look for two CAs of the same name; somebody may have forged a certificate",
    ),
    223: (
        "failure",
        "a certificate's key usage does not allow this use",
        "issue it with digitalSignature (peers) or keyCertSign (CAs), or without key usage",
    ),
    224: (
        "failure",
        "a certificate's extended key usage does not allow IKE",
        "issue it with serverAuth, clientAuth or ipsecIKE (1.3.6.1.5.5.7.3.17), or without extended key usage",
    ),
    225: (
        "failure",
        "a certificate signed another one but is no CA's",
        "let a CA issue the peer's certificate; a CA's has basicConstraints with cA true",
    ),
    226: (
        "failure",
        "more certificates are between CA and peer than are allowed",
        "issue from a CA whose path length constraint allows it",
    ),
    227: (
        "failure",
        "a certificate has a name that its CA may not certify",
        "issue it from a CA whose name constraints permit the name",
    ),
    228: (
        "failure",
        "a certificate has a critical extension that is not understood here",
        "issue it without that extension, or with it not critical",
    ),
    229: (
        "failure",
        "a certificate's key or signature algorithm is too weak or not known here",
        "issue it with RSA of 2048 to 8192 bits, ECDSA P-256, P-384 or P-521, Ed25519 or Ed448, and SHA-2",
    ),
    230: (
        "failure",
        "the peer's certificate does not carry the peer's identity",
        "issue it with the identity as subjectAltName, or make the peer's id one that its certificate carries",
    ),
    231: (
        "failure",
        "a name in a certificate is ambiguous: a NUL or control character in it, or two common names",
        "issue a certificate with plain names",
    ),
    250: (
        "refusal",
        "the two sides have no proposal in common",
        "make ike_proposals or esp_proposals overlap; the detail tells what was offered and what is accepted",
    ),
    251: (
        "refusal",
        "the two sides' traffic selectors do not overlap",
        "make local_ts here the peer's remote selectors, and remote_ts the peer's local ones",
    ),
    252: (
        "failure",
        "the peer does not answer",
        "look whether the peer runs and whether UDP 500 and 4500 pass in both directions",
    ),
    253: (
        "refusal",
        "the peer did not accept our authentication",
        "compare psk or certificate and local.id with what the peer expects; the peer's log says which",
    ),
    254: (
        "failure",
        "an IKE message breaks the protocol's rules",
        "look at the peer's implementation; the detail tells which rule",
    ),
    255: (
        "refusal",
        "the two sides want different key exchange methods",
        "name a common method (such as ecp384) in ike_proposals or esp_proposals on both sides",
    ),
    256: (
        "refusal",
        "the peer asks to try again later (TEMPORARY_FAILURE)",
        "it is tried again by itself",
    ),
    257: (
        "failure",
        "the peer no longer has the Child SA that was to be rekeyed",
        "it is negotiated anew by itself",
    ),
    258: (
        "refusal",
        "no connection of the configuration is for this peer",
        "compare the connections' local and remote addresses and ids with the detail",
    ),
    259: (
        "failure",
        "the peer keeps asking for cookies or other key exchange methods",
        "the peer may be under attack, or its answers forged; look at the peer",
    ),
    260: (
        "refusal",
        "too many half-open IKE SAs",
        "somebody floods UDP 500 from many addresses; see ike.half_open_limit",
    ),
    261: (
        "failure",
        "the peer deleted it",
        "see the peer's log for why",
    ),
    262: (
        "failure",
        "the peer made a new IKE SA that replaces this one",
        "none is needed, unless two peers use the same id",
    ),
    263: (
        "refusal",
        "it was terminated here",
        "esplanade initiate brings it up again",
    ),
    264: (
        "failure",
        "its lifetime ended before a rekey succeeded",
        "see why the rekey did not succeed: esplanade show log",
    ),
    265: (
        "refusal",
        "it was rekeyed",
        "none is needed",
    ),
    266: (
        "refusal",
        "the peer wants one pair of addresses for each Child SA",
        "it is tried again with the first pair by itself",
    ),
    267: (
        "refusal",
        "the peer takes no more Child SAs in this IKE SA",
        "raise the limit at the peer, or merge selectors into fewer children",
    ),
    268: (
        "failure",
        "an IKE message has a payload that must be understood and is not",
        "turn the extension off at the side that sends it",
    ),
    269: (
        "failure",
        "the peer speaks another major version of IKE",
        "set the peer to IKEv2",
    ),
    270: (
        "refusal",
        "the configuration no longer has it, or has it otherwise",
        "none is needed",
    ),
    271: (
        "refusal",
        "both sides made an IKE SA at the same time and this one is one too many",
        "none is needed",
    ),
    272: (
        "failure",
        "an IKE message names an IKE SA that is not here",
        "it was sent before a restart, or to the wrong machine; the peer notices by itself",
    ),
    273: (
        "failure",
        "an IKE message's ID is outside the window",
        "an old or replayed message; none is needed",
    ),
    274: (
        "refusal",
        "the peer answered with an error",
        "the detail names the notification; see the peer's log",
    ),
    275: (
        "failure",
        "an IKE message does not verify",
        "forged or damaged, or of an IKE SA made before a restart; none is needed",
    ),
    276: (
        "failure",
        "an IKE message does not fit the state of its IKE SA",
        "look at the peer's implementation if it happens often",
    ),
    277: (
        "refusal",
        "too many half-open IKE SAs of one address",
        "somebody floods UDP 500 from there, or many peers are behind one NAT; see ike.half_open_per_address",
    ),
    278: (
        "refusal",
        "too many IKE SAs",
        "raise ike.max_ike_sas if so many peers are meant to be here",
    ),
    300: (
        "refusal",
        "the configuration is not applied: it has mistakes",
        "correct the lines that are named; esplanade check --config FILE tells when none is left",
    ),
    301: (
        "refusal",
        "the configuration file cannot be read",
        "see that the path is right and that the user running this may read it",
    ),
    302: (
        "refusal",
        "the file is not valid TOML",
        "correct the line; it may be cut short, or a quote or bracket is not closed",
    ),
    303: (
        "refusal",
        "the schema version is missing or not known",
        "put schema = 1 at the top of the file",
    ),
    304: (
        "refusal",
        "there is no such key",
        "correct its name, or remove the line",
    ),
    305: (
        "refusal",
        "a key that is needed is missing",
        "add the key; appliance/config/README.md lists all of them",
    ),
    306: (
        "refusal",
        "the value is of another type than the key takes",
        "write the value as the key's help says",
    ),
    307: (
        "refusal",
        "the value has no unit, or an unknown one",
        'write durations as "30s", "5m", "8h", "1d" and sizes as "100GB", "64KiB"',
    ),
    308: (
        "refusal",
        "the value is not one that the key can have",
        "choose a value that the message names",
    ),
    309: (
        "refusal",
        "the name has characters that names may not have",
        "use letters, digits, '.', '_' and '-' only",
    ),
    310: (
        "refusal",
        "the proposal cannot be used",
        "use one that is known, such as aes256gcm16-prfsha384-ecp384 for IKE or aes256gcm16-esn for ESP",
    ),
    311: (
        "refusal",
        "the traffic selectors cannot be used",
        "write 10.1.0.0/24, fd01::/64, 10.1.0.0/24[tcp/80] or 10.0.0.1-10.0.0.9, the same families on both sides",
    ),
    312: (
        "refusal",
        "two parts of the configuration contradict each other",
        "change one of them",
    ),
    313: (
        "refusal",
        "two children or policies are for the same packets",
        "make the selectors differ, or remove one of them",
    ),
    314: (
        "refusal",
        "the lifetimes and intervals do not fit each other",
        "make the margin smaller than the lifetime, and the timeout no shorter than the interval",
    ),
    315: (
        "refusal",
        "the credentials for the chosen authentication are missing or too many",
        "for psk give psk or psk_file; for pubkey give local.cert and local.key, and remote.ca",
    ),
    316: (
        "refusal",
        "a network is on both sides of a child",
        "say in local_ts which networks are here, and in remote_ts which are there",
    ),
    340: (
        "refusal",
        "a credential file is not there",
        "create the file or change the path",
    ),
    341: (
        "refusal",
        "a credential file cannot be read",
        "see that it is a plain file which the daemon's user may read",
    ),
    342: (
        "refusal",
        "a file with a secret can be accessed by others than its owner",
        "chmod 600 FILE",
    ),
    343: (
        "refusal",
        "a credential file does not hold what it should",
        "convert it to PEM (openssl x509, openssl pkey)",
    ),
    344: (
        "refusal",
        "the private key is encrypted, and there is nobody to ask for its passphrase",
        "decrypt it: openssl pkey -in FILE -out NEW; chmod 600 NEW",
    ),
    345: (
        "refusal",
        "the private key is not the one of the certificate",
        "name the key and the certificate that belong together",
    ),
    346: (
        "refusal",
        "a pre-shared key is empty",
        "write the key into it: openssl rand -base64 32",
    ),
    347: (
        "refusal",
        "a key is of a type or a size that is not accepted",
        "use RSA of 2048 to 8192 bits, ECDSA P-256, P-384 or P-521, Ed25519 or Ed448",
    ),
    348: (
        "failure",
        "a local certificate is not valid now",
        "renew the certificate; see that the clock is right",
    ),
    349: (
        "refusal",
        "the local identity is not in the local certificate, so that peers will refuse it",
        "make local.id one that the certificate carries, or leave local.id out",
    ),
    350: (
        "refusal",
        "a pre-shared key is short enough to be guessed",
        "use a random one: openssl rand -base64 32",
    ),
    400: (
        "refusal",
        "it is not up",
        "bring it up: esplanade initiate NAME",
    ),
    401: (
        "refusal",
        "another daemon has the control socket",
        "stop that one first, or give this one another socket with --control PATH",
    ),
    402: (
        "refusal",
        "the change takes effect only when the daemon is started again",
        "start the daemon again, or take the change back",
    ),
    403: (
        "refusal",
        "too many clients use the control socket",
        "close some of them and try again",
    ),
    404: (
        "refusal",
        "the daemon is stopping",
        "start it again: esplanade run --config FILE",
    ),
    450: (
        "failure",
        "there is no control socket",
        "start the daemon (esplanade run --config FILE), or name its socket with --control PATH",
    ),
    451: (
        "failure",
        "the control socket is there but no daemon answers on it",
        "the daemon that made it is gone: start it again (esplanade run --config FILE), which replaces the socket",
    ),
    452: (
        "failure",
        "the control socket may not be used by this user",
        "run as root, or as a member of the group in control.group",
    ),
    453: (
        "failure",
        "the daemon did not answer in time",
        "try again with a longer --timeout; if it stays silent, see the daemon's own log and start it again",
    ),
    454: (
        "failure",
        "the daemon closed the connection before it answered",
        "it was stopped or it failed: see its own log, and start it again",
    ),
    455: (
        "refusal",
        "the request cannot be understood",
        "use the console of the same version as the daemon: esplanade --version",
    ),
    456: (
        "refusal",
        "the daemon does not know this request",
        "use the console of the same version as the daemon: esplanade --version",
    ),
    457: (
        "failure",
        "the daemon's answer cannot be understood",
        "use the console of the same version as the daemon, and see that the socket is Esplanade's",
    ),
    458: (
        "refusal",
        "there is no such connection or child",
        "see what there is: esplanade show connections",
    ),
    459: (
        "failure",
        "a part of the program is missing from this installation",
        "install the package esplanade again",
    ),
}
