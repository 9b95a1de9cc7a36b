"""The platforms' own payloads at rest: compressed, then sealed with AES-GCM by a data key of their store.

The data keys stand in a table, each closed by ENCRYPTION_KEYS; when a store is erased its key goes too. What belongs to
no store yet (parked webhooks, and Etsy's notices, which name no person) is sealed by one key of the installation.
"""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import lz4.block
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Connection, text

from gateway.domain.problems import PAYLOAD_SEALED_AWAY, Refused
from gateway.vault import Vault

SEALED = b"\x01"
"""How sealed bytes begin. No JSON does: what begins otherwise was stored before there were data keys."""

_KEY = slice(1, 9)
_NONCE = slice(9, 21)
_CONTENT = slice(21, None)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class DataKey:
    """One store's key. Its nonces are random, which is safe for 2^32 payloads."""

    id: int
    cipher: AESGCM = field(repr=False)

    def seal(self, payload: bytes, place: bytes) -> bytes:
        """Close a payload; it opens only at this `place`, so that no row can be passed off as another's."""
        nonce = os.urandom(12)
        return b"".join(
            (SEALED, self.id.to_bytes(8), nonce, self.cipher.encrypt(nonce, lz4.block.compress(payload), place))
        )

    def open(self, sealed: bytes, place: bytes) -> bytes:
        """The payload. Raises Refused when the bytes were altered, or belong to another place."""
        try:
            content: bytes = lz4.block.decompress(self.cipher.decrypt(sealed[_NONCE], sealed[_CONTENT], place))
        except (InvalidTag, lz4.block.LZ4BlockError):
            raise Refused(PAYLOAD_SEALED_AWAY, "it was altered", why="its bytes were altered.") from None
        return content


@dataclass(slots=True)
class Payloads:
    """Seals and opens payloads; keys that were opened once are kept in memory."""

    vault: Vault = field(repr=False)
    _keys: dict[int, DataKey] = field(default_factory=dict, repr=False)

    def key_of(self, tx: Connection, connection_id: int | None) -> DataKey:
        """The key of a store; None: of the installation. The first time one is needed it is made."""
        return self.keys_of(tx, [connection_id])[connection_id]

    def keys_of(self, tx: Connection, connection_ids: Iterable[int | None]) -> dict[int | None, DataKey]:
        """The same for several. They can't be dropped by an erasure until this transaction ends."""
        wanted = set(connection_ids)
        found = self._read(tx, wanted)
        if missing := wanted - set(found):
            for connection_id in sorted(missing, key=lambda each: each or 0):
                fresh = base64.b64encode(AESGCM.generate_key(256)).decode()
                tx.execute(
                    text(
                        "INSERT INTO data_keys (id, connection_id, wrapped) VALUES (:id, :connection, :wrapped)"
                        " ON CONFLICT DO NOTHING"
                    ),
                    # A random id: after a restore no other key can have that of one which is kept in memory.
                    {"id": secrets.randbits(62) + 1, "connection": connection_id, "wrapped": self.vault.close([fresh])},
                )
            found |= self._read(tx, missing)
        return found

    def open(self, tx: Connection, sealed: bytes, place: bytes) -> bytes:
        """The payload, whatever key closed it. Raises Refused when that key was dropped with its store."""
        if not sealed.startswith(SEALED):
            return sealed
        number = int.from_bytes(sealed[_KEY])
        key = self._keys.get(number)
        if key is None:
            wrapped = tx.execute(text("SELECT wrapped FROM data_keys WHERE id = :id"), {"id": number}).scalar()
            if wrapped is None:
                raise Refused(PAYLOAD_SEALED_AWAY, "its key is gone", why="the store was erased, and its key with it.")
            key = self._unwrapped(number, bytes(wrapped))
        return key.open(sealed, place)

    def _read(self, tx: Connection, wanted: set[int | None]) -> dict[int | None, DataKey]:
        rows = tx.execute(
            text(
                "SELECT id, connection_id, wrapped FROM data_keys WHERE coalesce(connection_id, 0) = ANY(:wanted)"
                " ORDER BY id FOR KEY SHARE"
            ),
            {"wanted": sorted(each or 0 for each in wanted)},
        )
        return {
            row.connection_id: self._keys.get(row.id) or self._unwrapped(row.id, bytes(row.wrapped)) for row in rows
        }

    def _unwrapped(self, number: int, wrapped: bytes) -> DataKey:
        key = self._keys[number] = DataKey(number, AESGCM(base64.b64decode(self.vault.open_list(wrapped)[0])))
        return key


def drop_key(tx: Connection, connection_id: int) -> None:
    """Forget a store's key: nothing that it sealed can be opened again, here or in a backup."""
    tx.execute(text("DELETE FROM data_keys WHERE connection_id = :id"), {"id": connection_id})


def place_of_delivery(received_at: datetime) -> bytes:
    """A delivery's id is not known when it is sealed; the microsecond at which it came is."""
    since = received_at - _EPOCH
    return b"delivery/%d" % (since.days * 86_400_000_000 + since.seconds * 1_000_000 + since.microseconds)


def place_of_order(connection_id: int, external_id: str) -> bytes:
    return f"order/{connection_id}/{external_id}".encode(errors="surrogatepass")
