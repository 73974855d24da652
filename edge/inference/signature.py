"""Who made a bundle: an Ed25519 signature over bundle.json, which in turn holds the hash of every other file.

Keys are PEM files as OpenSSL writes them, the signature is 64 bytes, and `openssl pkeyutl -verify -rawin` checks it as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from moodring.errors import BundleError, UsageError

SIGNATURE = "bundle.sig"
INSTALL_HINT = "pip install 'moodring[signed]'"


def sign(folder: Path, document: str, key: Path) -> Path:
    """Sign `document`, the name of a bundle's description in its folder, with a private key; return the signature's file."""
    private_key = _load_key(key, "load_pem_private_key", "Ed25519PrivateKey", password=None)
    try:
        signature = private_key.sign((folder / document).read_bytes())
        (folder / SIGNATURE).write_bytes(signature)
    except OSError as error:
        raise UsageError(f"{folder} cannot be signed ({error.strerror}: {error.filename})") from error
    return folder / SIGNATURE


def check(folder: Path, data: bytes, key: Path) -> None:
    """Raise BundleError unless `data`, the bundle's description, was signed with the private part of a public key."""
    public_key = _load_key(key, "load_pem_public_key", "Ed25519PublicKey")
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415  an extra

    try:
        public_key.verify((folder / SIGNATURE).read_bytes(), data)
    except FileNotFoundError as error:
        raise BundleError(
            f"bundle {folder} is not signed, and {key} is configured; sign it with `moodring sign`, or take bundle_key out"
        ) from error
    except OSError as error:
        raise BundleError(f"{folder / SIGNATURE} cannot be read ({error.strerror})") from error
    except InvalidSignature as error:
        raise BundleError(
            f"bundle {folder} was changed after it was signed, or signed with another key than {key} belongs to; restore it, "
            "or sign it again"
        ) from error


def _load_key(path: Path, loader: str, kind: str, **options: Any) -> Any:
    """Read a PEM file with one of cryptography's functions; UsageError where it holds no Ed25519 key of that kind."""
    try:
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415  an extra
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(f"signed bundles need the package cryptography: {INSTALL_HINT}") from error
    try:
        key = getattr(serialization, loader)(path.read_bytes(), **options)
    except OSError as error:
        raise UsageError(f"the key {path} cannot be read ({error.strerror})") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{path} holds no {kind} in PEM, without a password ({error})") from error
    if not isinstance(key, getattr(ed25519, kind)):
        raise UsageError(f"{path} holds another kind of key; make one with `openssl genpkey -algorithm ed25519`")
    return key
