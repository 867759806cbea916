"""Name constraints of CAs: which names they may certify (RFC 5280 §4.2.1.10 and §6.1.4 (g))."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from cryptography import x509
from cryptography.x509.oid import NameOID

from appliance.ike.authentication.certificate import MAX_NAMES, Certificate
from appliance.sa import distinguished_name


def forbidden_name(ca: Certificate, certificate: Certificate) -> str | None:
    """A name of the certificate that the CA's constraints do not let it have, in words; or None if all may be."""
    constraints = ca.name_constraints
    if constraints is None:
        return None
    permitted, excluded = constraints.permitted_subtrees or [], constraints.excluded_subtrees or []
    if len(permitted) + len(excluded) > MAX_NAMES:
        return f"more than {MAX_NAMES} constraints, too many to look at"
    try:
        names = _names(certificate)
    except ValueError:
        return "a mail address in its subject that is none"
    for name in names:
        kind = _KINDS.get(type(name))
        if kind is None:
            # Names of other kinds are nothing to us, unless they are constrained: then they cannot be judged.
            if any(type(base) is type(name) for base in (*permitted, *excluded)):
                return f"a {type(name).__name__}, a kind of name whose constraints are not understood here"
            continue
        of_kind = [base for base in permitted if type(base) is type(name)]
        try:
            if any(kind(name, base) for base in excluded if type(base) is type(name)):
                return f"{_show(name)}, which is excluded"
            if of_kind and not any(kind(name, base) for base in of_kind):
                return f"{_show(name)}, which is not permitted"
        except ValueError as error:
            return f"{_show(name)}: {error}"
    return None


def _names(certificate: Certificate) -> list[x509.GeneralName]:
    names = list(certificate.names)
    if certificate.subject:
        names.append(x509.DirectoryName(certificate.certificate.subject))
    # RFC 5280 §4.2.1.10: mail addresses in the subject are held to the constraints on mail addresses.
    for attribute in certificate.certificate.subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS):
        if isinstance(attribute.value, str):
            names.append(x509.RFC822Name(attribute.value))
    return names


def _dns(name: x509.GeneralName, base: x509.GeneralName) -> bool:
    assert isinstance(name, x509.DNSName) and isinstance(base, x509.DNSName)
    return _below(name.value, base.value)


def _below(host: str, base: str) -> bool:
    """Whether a host is the base or below it; a leading period, which some CAs write, wants it below."""
    host, base = host.lower().rstrip("."), base.lower().rstrip(".")
    if base.startswith("."):
        return host.endswith(base)
    return not base or host == base or host.endswith("." + base)


def _mail(name: x509.GeneralName, base: x509.GeneralName) -> bool:
    assert isinstance(name, x509.RFC822Name) and isinstance(base, x509.RFC822Name)
    local, _, host = name.value.rpartition("@")
    if "@" in base.value:
        base_local, _, base_host = base.value.rpartition("@")
        return local == base_local and host.lower() == base_host.lower()
    if base.value.startswith("."):
        return host.lower().endswith(base.value.lower())
    return host.lower() == base.value.lower()


def _address(name: x509.GeneralName, base: x509.GeneralName) -> bool:
    assert isinstance(name, x509.IPAddress) and isinstance(base, x509.IPAddress)
    address, network = name.value, base.value
    if isinstance(address, IPv4Address) and isinstance(network, IPv4Network):
        return address in network
    if isinstance(address, IPv6Address) and isinstance(network, IPv6Network):
        return address in network
    # Constraints of both families are of one kind: permitting IPv4 networks only leaves no IPv6 address permitted.
    return False


def _directory(name: x509.GeneralName, base: x509.GeneralName) -> bool:
    assert isinstance(name, x509.DirectoryName) and isinstance(base, x509.DirectoryName)
    inner, outer = (distinguished_name.parse_der(each.value.public_bytes()) for each in (name, base))
    return distinguished_name.is_within(inner, outer)


_KINDS: dict[type[x509.GeneralName], Callable[[x509.GeneralName, x509.GeneralName], bool]] = {
    x509.DNSName: _dns,
    x509.RFC822Name: _mail,
    x509.IPAddress: _address,
    x509.DirectoryName: _directory,
}


def _show(name: x509.GeneralName) -> str:
    if isinstance(name, x509.DirectoryName):
        return distinguished_name.show(distinguished_name.parse_der(name.value.public_bytes()))[:200]
    return "".join(c if c.isprintable() else "?" for c in str(name.value))[:200]
