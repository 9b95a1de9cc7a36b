"""The one comparison that all platforms' webhook signatures end in."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Sequence

from gateway.domain.problems import SIGNATURE_MALFORMED, SIGNATURE_MISSING, SIGNATURE_WRONG
from gateway.platforms.base import SignatureRejected


def decode(signature: str) -> bytes:
    """The 32 bytes of a base64 HMAC-SHA256, or SignatureRejected: malformed base64 must give 401, never 500."""
    if not signature:
        raise SignatureRejected(SIGNATURE_MISSING)
    try:
        raw = base64.b64decode(signature.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise SignatureRejected(SIGNATURE_MALFORMED) from None
    if len(raw) != hashlib.sha256().digest_size:
        raise SignatureRejected(SIGNATURE_MALFORMED)
    return raw


def require_match(signatures: Iterable[bytes], message: bytes, keys: Sequence[bytes]) -> None:
    """Accept when any signature was made with any of the keys over these very bytes, in constant time."""
    given = list(signatures)
    matched = False
    for key in keys:
        expected = hmac.digest(key, message, "sha256")
        for signature in given:
            matched |= hmac.compare_digest(expected, signature)
    if not matched:
        raise SignatureRejected(SIGNATURE_WRONG)
