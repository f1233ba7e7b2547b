"""Releases encrypted at rest, where the operator of a MEC server sets a key: AES-256-GCM, one nonce a file.

It keeps them from whoever gets the disk, not from whoever runs the server.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.ledger.keystore import read_private
from app.protocol.errors import ConfigError, ProtocolError

KEY_BYTES = 32
_MAGIC = b"hearth sealed 1\n"
_NONCE_BYTES = 12


class Cipher:
    """Seals and opens files under one key.

    Parameters
    ----------
    key : bytes
        32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)

    @classmethod
    def from_file(cls, path: Path) -> Cipher:
        """Read a key: 64 hexadecimal digits in a file for its owner's eyes alone.

        Raises
        ------
        ConfigError
            If it cannot be read, others may read it, or it holds no key.
        """
        try:
            key = bytes.fromhex(read_private(path, "cache.key_file").decode("ascii").strip())
        except (UnicodeDecodeError, ValueError):
            key = b""
        if len(key) != KEY_BYTES:
            allowed = f"{2 * KEY_BYTES} hexadecimal digits, as `openssl rand -hex {KEY_BYTES}` prints"
            raise ConfigError("cache.key_file", f"{path} holds no key", allowed)
        return cls(key)

    def seal(self, data: bytes, name: str) -> bytes:
        """Encrypt the content of the file called ``name``: it cannot be passed off as another one's."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _MAGIC + nonce + self._aead.encrypt(nonce, data, name.encode())

    def open(self, data: bytes, name: str) -> bytes:
        """Decrypt what `seal` made; raise `ProtocolError` if it was not made of this file with this key."""
        body = data.removeprefix(_MAGIC)
        if body is data or len(body) < _NONCE_BYTES:
            raise ProtocolError("it is not encrypted")
        try:
            return self._aead.decrypt(body[:_NONCE_BYTES], body[_NONCE_BYTES:], name.encode())
        except InvalidTag as error:
            raise ProtocolError("it was changed, or encrypted with another key") from error
