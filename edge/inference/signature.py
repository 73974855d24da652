"""Signature of a model bundle: Ed25519 (RFC 8032) over bundle.json, which contains the hash of every other file.

Keys are PEM files as OpenSSL writes them. The signature has 64 bytes; `openssl pkeyutl -verify -rawin` verifies it as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from moodring.errors import BundleError, UsageError

SIGNATURE = "bundle.sig"
INSTALL_HINT = "pip install 'moodring[signed]'"


def sign(folder: Path, document: str, key: Path) -> Path:
    """Sign the file `document` of a bundle's folder with a private key; return the file of the signature.

    Raises UsageError if the key cannot be used or a file cannot be read or written.
    """
    private_key = _load_key(key, "load_pem_private_key", "Ed25519PrivateKey", password=None)
    try:
        signature = private_key.sign((folder / document).read_bytes())
        (folder / SIGNATURE).write_bytes(signature)
    except OSError as error:
        raise UsageError(f"{folder} cannot be signed ({error.strerror}: {error.filename}); check the permissions") from error
    return folder / SIGNATURE


def check(folder: Path, data: bytes, key: Path) -> None:
    """Raise BundleError unless the signature in `folder` was made for `data` with the private key that belongs to `key`.

    `data` is the content of bundle.json, `key` the file of a public key. Raises UsageError if the key cannot be used.
    """
    public_key = _load_key(key, "load_pem_public_key", "Ed25519PublicKey")
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415  an extra

    try:
        public_key.verify((folder / SIGNATURE).read_bytes(), data)
    except FileNotFoundError as error:
        raise BundleError(
            f"bundle {folder} is not signed, but the key {key} is configured; sign it with `moodring sign` or remove bundle_key"
        ) from error
    except OSError as error:
        raise BundleError(f"{folder / SIGNATURE} cannot be read ({error.strerror}); restore it or sign again") from error
    except InvalidSignature as error:
        raise BundleError(
            f"bundle {folder} was changed after it was signed, or was signed with a key that does not belong to {key}; "
            "restore it or sign it again"
        ) from error


def _load_key(path: Path, loader: str, kind: str, **options: Any) -> Any:
    """Read a PEM file with `loader`, a function of cryptography. Raises UsageError unless it contains an Ed25519 key `kind`."""
    try:
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415  an extra
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(f"signed bundles need the package cryptography: {INSTALL_HINT}") from error
    try:
        key = getattr(serialization, loader)(path.read_bytes(), **options)
    except OSError as error:
        raise UsageError(f"the key {path} cannot be read ({error.strerror}); check the path and its permissions") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{path} does not contain an {kind} in PEM format without a password ({error})") from error
    if not isinstance(key, getattr(ed25519, kind)):
        raise UsageError(f"{path} contains a key of another type; create one with `openssl genpkey -algorithm ed25519`")
    return key
