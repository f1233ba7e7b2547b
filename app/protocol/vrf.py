"""Verifiable random function: ECVRF-EDWARDS25519-SHA512-TAI of RFC 9381.

A miner's output on the round's seed is unique (nobody can grind it), looks random to everyone else, and comes with a
proof that everybody can check. Group operations are libsodium's, through PyNaCl.
"""

from __future__ import annotations

from hashlib import sha512

import nacl.bindings as sodium
from nacl.exceptions import CryptoError

from app.protocol.errors import ProtocolError

PROOF_BYTES = 80
_ORDER = 2**252 + 27742317777372353535851937790883648493
_PRIME = 2**255 - 19
_SUITE = b"\x03"
_IDENTITY = (1).to_bytes(32, "little")


def public_key(secret: bytes) -> bytes:
    """Return the public key (32 bytes) of a 32-byte secret (RFC 8032 key expansion)."""
    return _base(_expand(secret)[0])


def prove(secret: bytes, message: bytes) -> bytes:
    """Return the proof pi (80 bytes) for ``message`` (RFC 9381, section 5.1)."""
    x, nonce_key = _expand(secret)
    y = _base(x)
    h = _encode_to_curve(y, message)
    gamma = _multiply(x, h)
    nonce = int.from_bytes(sodium.crypto_core_ed25519_scalar_reduce(sha512(nonce_key + h).digest()), "little")
    c = _challenge(y, h, gamma, _base(nonce), _multiply(nonce, h))
    return gamma + c.to_bytes(16, "little") + _scalar(nonce + c * x)


def proof_to_hash(proof: bytes) -> bytes:
    """Return the output beta (64 bytes) that a *verified* proof stands for (RFC 9381, section 5.2)."""
    return sha512(_SUITE + b"\x03" + _clear_cofactor(proof[:32]) + b"\x00").digest()


def verify(public: bytes, message: bytes, proof: bytes) -> bytes:
    """Check a proof and return its output beta (64 bytes) (RFC 9381, section 5.3).

    Raises
    ------
    ProtocolError
        If the key or the proof is malformed, or the proof is not for this key and message.
    """
    if len(public) != 32 or len(proof) != PROOF_BYTES or not sodium.crypto_core_ed25519_is_valid_point(public):
        raise ProtocolError("malformed VRF key or proof")
    gamma, c, s = proof[:32], int.from_bytes(proof[32:48], "little"), int.from_bytes(proof[48:], "little")
    if s >= _ORDER:
        raise ProtocolError("malformed VRF proof: scalar out of range")
    try:
        h = _encode_to_curve(public, message)
        u = sodium.crypto_core_ed25519_sub(_base(s), _multiply(c, public))
        v = sodium.crypto_core_ed25519_sub(_multiply(s, h), _multiply(c, gamma))
        valid = _challenge(public, h, gamma, u, v) == c
        beta = proof_to_hash(proof)
    except (CryptoError, ValueError, TypeError) as error:  # libsodium: not a point of the group
        raise ProtocolError("malformed VRF proof: not a point of the curve") from error
    if not valid:
        raise ProtocolError("the VRF proof is not for this key and seed")
    return beta


def _expand(secret: bytes) -> tuple[int, bytes]:
    if len(secret) != 32:
        raise ProtocolError("a VRF secret has 32 bytes")
    digest = bytearray(sha512(secret).digest())
    digest[0] &= 248
    digest[31] &= 127
    digest[31] |= 64
    return int.from_bytes(digest[:32], "little"), bytes(digest[32:])


def _encode_to_curve(salt: bytes, message: bytes) -> bytes:
    """Try and increment (RFC 9381, section 5.4.1.1)."""
    for counter in range(256):
        candidate = sha512(_SUITE + b"\x01" + salt + message + bytes([counter]) + b"\x00").digest()[:32]
        if not _is_point(candidate):
            continue
        point = _clear_cofactor(candidate)
        if point != _IDENTITY:
            return point
    raise ProtocolError("no point of the curve for this message")  # probability 2**-256


def _is_point(text: bytes) -> bool:
    """Tell whether the text is the canonical encoding of a curve point, of any order."""
    if int.from_bytes(text, "little") & (2**255 - 1) >= _PRIME:
        return False
    try:
        sodium.crypto_core_ed25519_add(text, _base(1))
    except CryptoError:
        return False
    return True


def _clear_cofactor(point: bytes) -> bytes:
    for _ in range(3):  # the cofactor is 8
        point = sodium.crypto_core_ed25519_add(point, point)
    return point


def _challenge(*points: bytes) -> int:
    return int.from_bytes(sha512(_SUITE + b"\x02" + b"".join(points) + b"\x00").digest()[:16], "little")


def _scalar(n: int) -> bytes:
    return (n % _ORDER).to_bytes(32, "little")


def _multiply(n: int, point: bytes) -> bytes:
    return sodium.crypto_scalarmult_ed25519_noclamp(_scalar(n), point)


def _base(n: int) -> bytes:
    return sodium.crypto_scalarmult_ed25519_base_noclamp(_scalar(n))
