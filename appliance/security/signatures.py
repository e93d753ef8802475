"""Who vouches for a bundle: Ed25519 over the list of its files and their digests, kept in it as `signature.json`.

Runs in the command line (to sign) and in the gateway, in a thread (to check). Knows lists of digests, not bundles.
The key pair is its owner's: a private key in PEM form (PKCS 8), and a public key of 32 bytes in hexadecimal.
"""

from collections.abc import Mapping, Set
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from appliance.core.errors import BadInputError, RefusedError

SIGNATURE = "signature.json"
MAX_BYTES = 2**20
MAX_KEYS = 1000
# Before what is signed, so that a signature of ours is good for nothing else.
_CONTEXT = b"ingle bundle 1\n"


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`signature.json`. `signature` is base64 in JSON."""

    public_key: str
    signature: bytes
    algorithm: str = "ed25519"


def new_key(path: Path) -> str:
    """Makes a key pair, writes the private key to a new file that only its owner can read, and returns the public key.
    Raises BadInputError where the file is there."""
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    try:
        path.touch(mode=0o600, exist_ok=False)
    except FileExistsError:
        raise BadInputError(f"{path} is there already: a key is never written over") from None
    path.write_bytes(pem)
    return public_key(key)


def read_key(path: Path) -> Ed25519PrivateKey:
    """Raises BadInputError where the file holds no Ed25519 private key."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError):
        raise BadInputError(
            f"{path} holds no private key in PEM form without a passphrase: expected such as 'ingle pack --new-key "
            "FILE' makes"
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise BadInputError(f"{path} holds another kind of key: expected Ed25519, as 'ingle pack --new-key FILE' makes")
    return key


def public_key(key: Ed25519PrivateKey) -> str:
    """In hexadecimal, as the node's file of trusted keys lists them."""
    return key.public_key().public_bytes_raw().hex()


def read_trusted(path: Path) -> frozenset[str]:
    """The public keys in a file, one a line; what follows on the line, and lines with #, are for people. Raises
    BadInputError."""
    found = set()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()[:MAX_KEYS], 1):
        word = line.split("#", 1)[0].split()
        if not word:
            continue
        if len(word[0]) != 64 or set(word[0].lower()) - set("0123456789abcdef"):
            raise BadInputError(f"{path}, line {number}: expected a public key of 64 hexadecimal digits")
        found.add(word[0].lower())
    return frozenset(found)


def sign(files: Mapping[str, str], key: Ed25519PrivateKey) -> bytes:
    """`signature.json` for these files, path to sha256."""
    made = Signature(public_key(key), key.sign(_statement(files)))
    return msgspec.json.format(msgspec.json.encode(made), indent=2)


def signer(signature: bytes | None, files: Mapping[str, str]) -> str:
    """The public key that vouches for exactly these files (`signature.json` itself aside). Raises RefusedError where
    there is no signature, or it is not true of them."""
    if signature is None:
        raise RefusedError("the bundle is not signed: sign it with 'ingle pack --sign KEYFILE'")
    try:
        found = msgspec.json.decode(signature[:MAX_BYTES], type=Signature)
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(found.public_key))
        if found.algorithm != "ed25519":
            raise ValueError(f"the algorithm {found.algorithm[:40]!a} is not known here")
        key.verify(found.signature, _statement({path: d for path, d in files.items() if path != SIGNATURE}))
    except InvalidSignature:
        raise RefusedError(
            "the bundle's signature is not true of its files: it was changed after it was signed"
        ) from None
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RefusedError(f"the bundle's signature cannot be read: {error}") from None
    return found.public_key.lower()


def check_trusted(key: str, trusted: Set[str]) -> None:
    """Raises RefusedError unless the key is one of those that are trusted."""
    if key not in trusted:
        raise RefusedError(f"the bundle is signed with the key {key[:16]}..., which this node does not trust")


def _statement(files: Mapping[str, str]) -> bytes:
    return _CONTEXT + msgspec.json.encode(sorted(files.items()))
