"""Signatures of receipts: Ed25519, RFC 8032, by the package `cryptography`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from trt_anon._optional import require
from trt_anon.errors import InputError, OutputError, UsageError
from trt_anon.job.receipt import Receipt, Signature

_PURPOSE = "signing receipts"


def make_key(path: Path) -> str:
    """Write a new private key (PEM, PKCS #8, for the user alone) and give its public key in hexadecimal.

    Raises OutputError where a file is there already or it cannot be written.
    """
    key = _ed25519().Ed25519PrivateKey.generate()
    forms = require("cryptography.hazmat.primitives.serialization", _PURPOSE)
    pem = key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.NoEncryption())
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(pem)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
    return _public_hex(key)


def load_key(path: Path) -> Any:
    """A private key. Raises UsageError where it is none."""
    forms = require("cryptography.hazmat.primitives.serialization", _PURPOSE)
    try:
        key = forms.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"{path} is no private key in PEM without a password; make one: trt-anon receipt key"
        ) from error
    if not isinstance(key, _ed25519().Ed25519PrivateKey):
        raise UsageError(f"{path} is a key of another kind; receipts are signed with Ed25519")
    return key


def sign(receipt: Receipt, key: Any) -> Receipt:
    """The receipt with a signature."""
    value = key.sign(receipt.signed_bytes()).hex()
    return receipt.model_copy(update={"signature": Signature(public_key=_public_hex(key), value=value)})


def check_signature(receipt: Receipt, public_key: str | None = None) -> None:
    """Raise InputError unless the receipt is signed, as it is, by that public key (hexadecimal) or the one it names."""
    signature = receipt.signature
    if signature is None:
        raise InputError("the receipt is not signed")
    if public_key is not None and signature.public_key != public_key.strip().lower():
        raise InputError("the receipt is signed by another key than the one given")
    refused = require("cryptography.exceptions", _PURPOSE).InvalidSignature
    key = _ed25519().Ed25519PublicKey.from_public_bytes(bytes.fromhex(signature.public_key))
    try:
        key.verify(bytes.fromhex(signature.value), receipt.signed_bytes())
    except refused as error:
        raise InputError("the receipt was changed after it was signed") from error


def _ed25519() -> Any:
    return require("cryptography.hazmat.primitives.asymmetric.ed25519", _PURPOSE)


def _public_hex(key: Any) -> str:
    raw: bytes = key.public_key().public_bytes_raw()
    return raw.hex()
