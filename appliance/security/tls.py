"""What the fronts speak TLS with: a certificate and its key, checked before anyone is served.

Runs in the gateway process, at its start. The fronts make of it what their libraries want.
"""

import hashlib
import ssl
from pathlib import Path
from typing import NamedTuple

from appliance.core.errors import BadInputError, NotFoundError

CERTIFICATE_NAME = "tls.crt"  # the same certificate alone, for callers
TLS_BUNDLE = "tls.pem"  # key and certificate of a node's own making, in its data folder


class Tls(NamedTuple):
    """A certificate chain and its private key as PEM. `fingerprint` is the certificate's SHA-256 in hexadecimal."""

    chain_file: Path
    key_file: Path
    chain: bytes
    key: bytes
    fingerprint: str

    def context(self) -> ssl.SSLContext:
        """For a server of HTTP/1.1: TLS 1.2 or newer, as Python's defaults say."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.chain_file, self.key_file)
        context.set_alpn_protocols(["http/1.1"])
        return context


def read_tls(chain_file: Path, key_file: Path) -> Tls:
    """The certificate in `chain_file` (its issuers may follow it) with the key in `key_file`.

    Raises NotFoundError where one is not there and BadInputError, naming the file, where one cannot be read, is not
    PEM, or they do not belong together.
    """
    chain, key = _read(chain_file, "certificate"), _read(key_file, "key")
    fingerprint = _fingerprint(chain_file, chain)
    # A key behind a passphrase would make OpenSSL ask the terminal, and an appliance has none.
    asked: list[bool] = []

    def passphrase() -> str:
        asked.append(True)
        return ""

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(chain_file, key_file, passphrase)
    except ssl.SSLError as error:
        if asked:
            raise BadInputError(f"the TLS key {key_file} has a passphrase: store it without one") from None
        if error.reason == "KEY_VALUES_MISMATCH":
            raise BadInputError(f"the TLS key {key_file} is not that of the certificate {chain_file}") from None
        raise BadInputError(f"the TLS key {key_file} is no private key in PEM form: {_words(error)}") from None
    return Tls(chain_file, key_file, chain, key, fingerprint)


def _read(file: Path, what: str) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise NotFoundError(f"the TLS {what} {file} is not there") from None
    except OSError as error:
        raise BadInputError(f"the TLS {what} {file} cannot be read: {error.strerror}") from None


def _fingerprint(file: Path, chain: bytes) -> str:
    """Of the first certificate, which is the server's own."""
    begin, end = chain.find(b"-----BEGIN CERTIFICATE-----"), chain.find(b"-----END CERTIFICATE-----")
    try:
        if not 0 <= begin < end:
            raise ValueError("it holds none")
        der = ssl.PEM_cert_to_DER_cert(chain[begin:end].decode("ascii") + "-----END CERTIFICATE-----\n")
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=der)
    except (ValueError, ssl.SSLError) as error:
        raise BadInputError(f"the TLS certificate {file} is no certificate in PEM form: {_words(error)}") from None
    return hashlib.sha256(der).hexdigest()


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return str(error).strip() or "it could not be taken apart"
