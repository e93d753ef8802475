"""How two nodes that share a short code come to share the mesh's keys: frames, proofs and seals. Pure; any process.

SPAKE2 in its two-sided form: who listened in, stood between or guessed a wrong code learns nothing with which a guess
could be tried later. Then each side proves, over all that was said, that it came to the same key; the joining one
first, so that a guess costs a try before anything is told.

    joiner   → Asked    its element of SPAKE2, who it is
    inviter  → Offered  its element, who it is
    joiner   → Proved   HMAC over the transcript
    inviter  → Granted  HMAC over the transcript, and sealed: the mesh's keys and members
    joiner   → Settled  sealed: how it is reached, with the mesh's credential; it has kept the keys

Either may say Refused instead.
"""

import hmac
from hashlib import sha256
from typing import Literal, NamedTuple, TypeVar

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from federation.invitation_code import Code
from federation.messages import Introduction, Keys

INVITATION_PROTOCOL = 1
_CONTEXT = b"ingle-invitation-1"

T = TypeVar("T", bound=msgspec.Struct)


class Asked(msgspec.Struct, array_like=True, tag="asked", frozen=True):
    protocol: int
    label: str
    element: bytes
    node_id: str
    name: str
    public_key: bytes


class Offered(msgspec.Struct, array_like=True, tag="offered", frozen=True):
    protocol: int
    element: bytes
    node_id: str
    name: str
    public_key: bytes


class Proved(msgspec.Struct, array_like=True, tag="proved", frozen=True):
    proof: bytes


class Granted(msgspec.Struct, array_like=True, tag="granted", frozen=True):
    proof: bytes
    sealed: bytes


class Settled(msgspec.Struct, array_like=True, tag="settled", frozen=True):
    sealed: bytes


class Refused(msgspec.Struct, array_like=True, tag="refused", frozen=True):
    """`why`: a word of invitations.Why; others may come from a newer version. Never a sentence: who sends it may be
    anybody, and a terminal may show it."""

    why: str


Frame = Asked | Offered | Proved | Granted | Settled | Refused


class Grant(msgspec.Struct, array_like=True, frozen=True):
    """What the joining node is given: the keys, and whom the inviting node knows, itself first."""

    keys: Keys
    members: list[Introduction]


class NotAgreedError(Exception):
    """The other side's element, proof or seal is none: another code, or a peer that is none of ours."""


class Secrets(NamedTuple):
    """What both sides derive; each is used once."""

    joiner_proof: bytes
    inviter_proof: bytes
    grant_key: bytes
    settled_key: bytes


class Exchange:
    """One side of one exchange, used once. The arithmetic takes milliseconds: keep it off an event loop."""

    def __init__(self, code: Code, side: Literal["joiner", "inviter"]) -> None:
        from spake2 import SPAKE2_A, SPAKE2_B

        # The two sides' elements are blinded unlike, so that neither's can be sent back to it as an answer.
        password = code.secret.encode()
        label = code.label.encode()
        kind = SPAKE2_A if side == "joiner" else SPAKE2_B
        self._spake = kind(password, idA=_CONTEXT + b"-joiner-" + label, idB=_CONTEXT + b"-inviter-" + label)
        self.element: bytes = self._spake.start()

    def agree(self, their_element: bytes, asked: bytes, offered: bytes) -> Secrets:
        """The secrets, bound to the two frames as they were on the wire. Raises NotAgreedError for what is no element;
        a wrong code shows only in the proofs."""
        try:
            key = self._spake.finish(their_element)
        except Exception as error:  # the library raises kinds of its own, ValueErrors and AssertionErrors
            raise NotAgreedError("not an element of the group") from error
        transcript = sha256(_CONTEXT + _sized(asked) + _sized(offered)).digest()
        derived = HKDF(algorithm=SHA256(), length=128, salt=transcript, info=_CONTEXT).derive(key)
        joiner, inviter, grant_key, settled_key = (derived[i : i + 32] for i in range(0, 128, 32))
        return Secrets(_proof(joiner, transcript), _proof(inviter, transcript), grant_key, settled_key)


def same(one: bytes, other: bytes) -> bool:
    """Compares proofs in a time that tells nothing."""
    return hmac.compare_digest(one, other)


def seal(key: bytes, content: msgspec.Struct) -> bytes:
    """Encrypts and authenticates; `key` must never be used twice, which is why the nonce may be zeros."""
    return ChaCha20Poly1305(key).encrypt(bytes(12), msgspec.msgpack.encode(content), _CONTEXT)


def open_grant(key: bytes, sealed: bytes) -> Grant:
    """Raises NotAgreedError where it was not sealed with `key`."""
    return _opened(key, sealed, Grant)


def open_introduction(key: bytes, sealed: bytes) -> Introduction:
    """Raises NotAgreedError where it was not sealed with `key`."""
    return _opened(key, sealed, Introduction)


def _opened(key: bytes, sealed: bytes, kind: type[T]) -> T:
    try:
        return msgspec.msgpack.decode(ChaCha20Poly1305(key).decrypt(bytes(12), sealed, _CONTEXT), type=kind)
    except (InvalidTag, msgspec.MsgspecError, ValueError) as error:
        raise NotAgreedError("the seal is broken") from error


def _proof(key: bytes, transcript: bytes) -> bytes:
    return hmac.digest(key, transcript, "sha256")


def _sized(frame: bytes) -> bytes:
    return len(frame).to_bytes(4, "big") + frame
