"""The certificate that a node makes for itself with `--tls self`: made once, kept, renewed before it runs out.

Runs in the gateway process, at its start. Key and certificate lie in one file, so that one rename changes both; the
certificate alone lies beside it for whoever wants to hand it to callers. Knows nothing of who speaks TLS.
"""

import contextlib
import datetime
import ipaddress
import re
import socket
from collections.abc import Iterable
from pathlib import Path

import ifaddr
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from appliance.core.durable import disk_faults, write_durably
from appliance.security.tls import CERTIFICATE_NAME, TLS_BUNDLE

# Renewing changes the fingerprint that callers pin, and an appliance has nobody to tell them: so it is rare.
_LIFE = datetime.timedelta(days=3650)
_RENEWED_BEFORE = datetime.timedelta(days=365)
# A box's clock may be behind when it starts for the first time, and its callers' behind that.
_BACKDATED = datetime.timedelta(days=1)
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


def self_made(folder: Path) -> Path:
    """The file with this node's own key and certificate, made now where there is none that holds for another year.

    Raises IngleError where the folder cannot be written, UnavailableError where the disk is full.
    """
    bundle = folder / TLS_BUNDLE
    now = datetime.datetime.now(datetime.UTC)
    certificate = _kept(bundle)
    if certificate is None or certificate.not_valid_after_utc - now < _RENEWED_BEFORE:
        certificate, content = make_certificate(own_names(), own_addresses(), now)
        with disk_faults(folder):
            write_durably(bundle, content)
    with disk_faults(folder):
        write_durably(folder / CERTIFICATE_NAME, certificate.public_bytes(Encoding.PEM), mode=0o644)
    return bundle


def _kept(bundle: Path) -> x509.Certificate | None:
    """The certificate made at an earlier start; None where there is none, or others could have read its key."""
    with contextlib.suppress(OSError, ValueError):
        if not bundle.stat().st_mode & 0o077:
            return x509.load_pem_x509_certificate(bundle.read_bytes())
    return None


def make_certificate(
    names: Iterable[str], addresses: Iterable[str], now: datetime.datetime
) -> tuple[x509.Certificate, bytes]:
    """A certificate on a new P-256 key that signs itself, for these host names and addresses; and both as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = list(names)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    others: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    others += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + _LIFE)
        .add_extension(x509.SubjectAlternativeName(others), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate, private + certificate.public_bytes(Encoding.PEM)


def own_names() -> list[str]:
    """What this box may be called, its own name first."""
    host = socket.gethostname()
    names = [host, f"{host}.local"] if "." not in host else [host]
    return list(dict.fromkeys(name for name in (*names, "localhost") if _HOST_NAME.fullmatch(name)))


def own_addresses() -> list[str]:
    """The loopback's addresses and those of this box's interfaces."""
    found = {"127.0.0.1", "::1"}
    for adapter in ifaddr.get_adapters():
        found |= {ip.ip if isinstance(ip.ip, str) else ip.ip[0].partition("%")[0] for ip in adapter.ips}
    return sorted(found)
