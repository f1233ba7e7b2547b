from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.protocol import vrf
from app.protocol.errors import ProtocolError

# RFC 9381, appendix B.3, examples 16 to 18: secret, message, proof, output.
RFC = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "",
        "8657106690b5526245a92b003bb079ccd1a92130477671f6fc01ad16f26f723f26f8a57ccaed74ee1b190bed1f479d97"
        "27d2d0f9b005a6e456a35d4fb0daab1268a1b0db10836d9826a528ca76567805",
        "90cf1df3b703cce59e2a35b925d411164068269d7b2d29f3301c03dd757876ff"
        "66b71dda49d2de59d03450451af026798e8f81cd2e333de5cdf4f3e140fdd8ae",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "72",
        "f3141cd382dc42909d19ec5110469e4feae18300e94f304590abdced48aed5933bf0864a62558b3ed7f2fea45c92a465"
        "301b3bbf5e3e54ddf2d935be3b67926da3ef39226bbc355bdc9850112c8f4b02",
        "eb4440665d3891d668e7e0fcaf587f1b4bd7fbfe99d0eb2211ccec90496310eb"
        "5e33821bc613efb94db5e5b54c70a848a0bef4553a41befc57663b56373a5031",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "af82",
        "9bc0f79119cc5604bf02d23b4caede71393cedfbb191434dd016d30177ccbf8096bb474e53895c362d8628ee9f9ea3c0"
        "e52c7a5c691b6c18c9979866568add7a2d41b00b05081ed0f58ee5e31b3a970e",
        "645427e5d00c62a23fb703732fa5d892940935942101e456ecca7bb217c61c45"
        "2118fec1219202a0edcf038bb6373241578be7217ba85a2687f7a0310b2df19f",
    ),
]
SECRETS = st.binary(min_size=32, max_size=32)


@pytest.mark.parametrize(("secret", "message", "proof", "output"), RFC)
def test_rfc_examples(secret: str, message: str, proof: str, output: str) -> None:
    key, alpha = bytes.fromhex(secret), bytes.fromhex(message)
    assert vrf.prove(key, alpha).hex() == proof
    assert vrf.verify(vrf.public_key(key), alpha, bytes.fromhex(proof)).hex() == output
    assert vrf.proof_to_hash(bytes.fromhex(proof)).hex() == output


@given(SECRETS, st.binary(max_size=100))
@settings(max_examples=30, deadline=None)
def test_what_is_proved_verifies(secret: bytes, message: bytes) -> None:
    proof = vrf.prove(secret, message)
    assert vrf.verify(vrf.public_key(secret), message, proof) == vrf.proof_to_hash(proof)
    assert proof == vrf.prove(secret, message)


@given(SECRETS, st.integers(0, 8 * vrf.PROOF_BYTES - 1))
@settings(max_examples=60, deadline=None)
def test_every_changed_bit_is_refused(secret: bytes, bit: int) -> None:
    proof = bytearray(vrf.prove(secret, b"seed"))
    proof[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ProtocolError):
        vrf.verify(vrf.public_key(secret), b"seed", bytes(proof))


def test_another_message_or_key_is_refused() -> None:
    proof = vrf.prove(bytes(32), b"seed")
    with pytest.raises(ProtocolError, match="not for this key and seed"):
        vrf.verify(vrf.public_key(bytes(32)), b"other", proof)
    with pytest.raises(ProtocolError):
        vrf.verify(vrf.public_key(b"\1" * 32), b"seed", proof)


@given(st.binary(max_size=40) | SECRETS, st.binary(max_size=100) | st.binary(min_size=80, max_size=80))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_refused_with_our_error(key: bytes, proof: bytes) -> None:
    with pytest.raises(ProtocolError):
        vrf.verify(key, b"seed", proof)


@pytest.mark.parametrize("key", [bytes(32), (1).to_bytes(32, "little"), b"\xff" * 32, b"\xec" + b"\xff" * 30 + b"\x7f"])
def test_degenerate_keys_are_refused(key: bytes) -> None:
    """A key of small order would make every output predictable."""
    with pytest.raises(ProtocolError):
        vrf.verify(key, b"seed", vrf.prove(bytes(32), b"seed"))


def test_scalar_out_of_range_is_refused() -> None:
    """s + L would verify too if it were not refused: one output, one proof from one nonce."""
    proof = vrf.prove(bytes(32), b"seed")
    order = 2**252 + 27742317777372353535851937790883648493
    shifted = proof[:48] + (int.from_bytes(proof[48:], "little") + order).to_bytes(32, "little")
    with pytest.raises(ProtocolError, match="out of range"):
        vrf.verify(vrf.public_key(bytes(32)), b"seed", shifted)


def test_secret_has_32_bytes() -> None:
    with pytest.raises(ProtocolError, match="32 bytes"):
        vrf.prove(bytes(31), b"")
