"""Secrets at rest: encrypted with the first key, opened with any; each one names the key that made it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from cryptography.fernet import Fernet, InvalidToken

from gateway.domain.problems import KEY_MISSING, NeedsOperator


class Vault:
    """Made from ENCRYPTION_KEYS: `<key id>:<Fernet key>`, comma-separated, the first one encrypts."""

    def __init__(self, keys: str) -> None:
        pairs = [entry.strip().partition(":") for entry in keys.split(",") if entry.strip()]
        if not pairs:
            raise NeedsOperator(KEY_MISSING, "ENCRYPTION_KEYS is empty", key="any")
        self._keys = {key_id: Fernet(key.encode()) for key_id, _, key in pairs}
        self.first = pairs[0][0]
        """The id of the key that encrypts."""

    def __repr__(self) -> str:
        return f"Vault({', '.join(self._keys)})"

    def close(self, secret: Mapping[str, str] | Sequence[str]) -> bytes:
        """Encrypt JSON; the result begins with the key's id and a colon."""
        return self.first.encode() + b":" + self._keys[self.first].encrypt(json.dumps(secret).encode())

    def open_mapping(self, closed: bytes) -> dict[str, str]:
        """What `close` was given. NeedsOperator when the key that made it is not among ours."""
        opened = self._open(closed)
        assert isinstance(opened, dict)
        return opened

    def open_list(self, closed: bytes) -> list[str]:
        return list(self._open(closed))

    def renew(self, closed: bytes) -> bytes:
        """The same secret closed with the first key."""
        opened = self._open(closed)
        return self.close(opened)

    def key_ids(self) -> frozenset[str]:
        return frozenset(self._keys)

    def _open(self, closed: bytes) -> dict[str, str] | list[str]:
        name, token = key_id(closed), closed.partition(b":")[2]
        key = self._keys.get(name)
        if key is None:
            raise NeedsOperator(KEY_MISSING, name, key=name)
        try:
            opened: dict[str, str] | list[str] = json.loads(key.decrypt(token))
        except InvalidToken:
            raise NeedsOperator(KEY_MISSING, "a key with this id exists, but it is another one",
                                key=name) from None  # fmt: skip
        return opened


def key_id(closed: bytes) -> str:
    """The id of the key that closed a secret."""
    return closed.partition(b":")[0].decode(errors="replace")
