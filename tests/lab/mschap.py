"""MS-CHAPv2's client side (RFC 2759), which radclient lacks."""

import hashlib
import os

from Crypto.Cipher import DES
from Crypto.Hash import MD4

_MAGIC_1 = b"Magic server to client signing constant"
_MAGIC_2 = b"Pad to make it do more than one iteration"


def request(user: str, password: str) -> tuple[str, str]:
    """Attribute lines for radclient, and the MS-CHAP2-Success value that proves the server knew the password."""
    server_challenge, peer_challenge = os.urandom(16), os.urandom(16)
    challenge = hashlib.sha1(peer_challenge + server_challenge + user.encode()).digest()[:8]
    nt_hash = MD4.new(password.encode("utf-16-le")).digest()
    response = b"".join(_des(nt_hash.ljust(21, b"\0")[i : i + 7], challenge) for i in (0, 7, 14))
    answer = b"\0\0" + peer_challenge + bytes(8) + response
    lines = (
        f'User-Name = "{user}"\nMS-CHAP-Challenge = 0x{server_challenge.hex()}\nMS-CHAP2-Response = 0x{answer.hex()}'
    )
    return lines, "0x00" + _authenticator(nt_hash, response, challenge).encode().hex()


def _authenticator(nt_hash: bytes, response: bytes, challenge: bytes) -> str:
    """RFC 2759, 8.7."""
    digest = hashlib.sha1(MD4.new(nt_hash).digest() + response + _MAGIC_1).digest()
    return "S=" + hashlib.sha1(digest + challenge + _MAGIC_2).hexdigest().upper()


def _des(key7: bytes, block: bytes) -> bytes:
    bits = int.from_bytes(key7, "big")
    key = bytes(((bits >> (49 - 7 * i)) & 0x7F) << 1 for i in range(8))
    return DES.new(key, DES.MODE_ECB).encrypt(block)
