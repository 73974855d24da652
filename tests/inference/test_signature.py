"""Signed bundles: a bundle signed with a private key is accepted with its public key, and rejected in all other cases."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from moodring import cli
from moodring.config import parse
from moodring.errors import BundleError, UsageError
from moodring.inference import signature
from moodring.inference.bundle import BUNDLE_FILE, load, load_configured
from tests.support.tiny_bundle import write_tiny_bundle

pytest.importorskip("cryptography", reason="the extra signed is not installed")


def make_keys(folder: Path, name: str, algorithm: str = "ed25519") -> tuple[Path, Path]:
    """Write a private and a public key with OpenSSL."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    subprocess.run(["openssl", "genpkey", "-algorithm", algorithm, "-out", private], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
    return private, public


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_keys(tmp_path_factory.mktemp("keys"), "signer")


@pytest.fixture
def signed(tmp_path: Path, keys: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> Path:
    bundle = write_tiny_bundle(tmp_path / "bundle")
    assert cli.main(["sign", str(bundle), "--key", str(keys[0])]) == 0
    assert capsys.readouterr().out.strip() == str(bundle / signature.SIGNATURE)
    return bundle


def test_a_signed_bundle_is_loaded_with_its_key_and_without_a_key(signed: Path, keys: tuple[Path, Path]):
    config = parse({"bundle": str(signed), "bundle_key": str(keys[1])}, "here")
    assert load_configured(config.bundle, config.bundle_key).id == load(signed).id
    assert load_configured(str(signed), "none").id == load(signed).id


def test_openssl_verifies_the_signature(signed: Path, keys: tuple[Path, Path]):
    command = ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", keys[1], "-in", signed / BUNDLE_FILE]
    done = subprocess.run([*command, "-sigfile", signed / signature.SIGNATURE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Verified Successfully" in done.stdout


def test_an_unsigned_bundle_is_rejected_if_a_key_is_configured(tmp_path: Path, keys: tuple[Path, Path]):
    bundle = write_tiny_bundle(tmp_path / "bundle")
    with pytest.raises(BundleError, match=r"is not signed, but the key .* is configured; sign it with `moodring sign`"):
        load(bundle, key=keys[1])


def test_a_bundle_signed_with_another_key_or_changed_is_rejected(tmp_path: Path, signed: Path, keys: tuple[Path, Path]):
    _, other_key = make_keys(tmp_path, "other")
    with pytest.raises(BundleError, match="changed after it was signed, or was signed with a key that does not belong to"):
        load(signed, key=other_key)
    file = signed / BUNDLE_FILE
    file.write_text(json.dumps(json.loads(file.read_text())), encoding="utf-8")  # the same content, formatted differently
    load(signed)
    with pytest.raises(BundleError, match="changed after it was signed"):
        load(signed, key=keys[1])


def test_a_network_changed_after_signing_is_rejected_by_its_hash(signed: Path, keys: tuple[Path, Path]):
    network = signed / "face.fp32.onnx"
    network.write_bytes(network.read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"face\.fp32\.onnx is not the file"):
        load(signed, key=keys[1])


@pytest.mark.parametrize("content", [b"", b"x" * 64, b"x" * 63])
def test_an_invalid_signature_is_rejected(signed: Path, keys: tuple[Path, Path], content: bytes):
    (signed / signature.SIGNATURE).write_bytes(content)
    with pytest.raises(BundleError, match="changed after it was signed"):
        load(signed, key=keys[1])


def test_an_invalid_key_raises_usage_error_with_the_reason(tmp_path: Path, signed: Path, keys: tuple[Path, Path]):
    with pytest.raises(UsageError, match=r"the key .*nowhere cannot be read \(No such file"):
        load(signed, key=tmp_path / "nowhere")
    with pytest.raises(UsageError, match="does not contain an Ed25519PublicKey in PEM format"):
        load(signed, key=keys[0])
    with pytest.raises(UsageError, match="does not contain an Ed25519PrivateKey in PEM format"):
        signature.sign(signed, BUNDLE_FILE, keys[1])
    with pytest.raises(UsageError, match="contains a key of another type; create one with"):
        load(signed, key=make_keys(tmp_path, "x25519", "x25519")[1])


def test_a_damaged_bundle_is_not_signed(tmp_path: Path, keys: tuple[Path, Path]):
    bundle = write_tiny_bundle(tmp_path / "bundle")
    (bundle / "speech.fp32.onnx").unlink()
    assert cli.main(["sign", str(bundle), "--key", str(keys[0])]) == 1
    assert not (bundle / signature.SIGNATURE).exists()


def test_a_key_without_the_extra_raises_usage_error_with_the_command(
    signed: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(__import__("sys").modules, "cryptography.exceptions", None)
    with pytest.raises(UsageError, match=r"pip install 'moodring\[signed\]'"):
        load(signed, key=keys[1])
