"""`moodring devices` and `moodring service`: their output, and the requests that they reject."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from moodring import cli
from moodring.diagnostics import devices
from moodring.errors import ConfigError, UsageError
from moodring.service import unit


def fake_camera(root: Path, number: int, name: str, mode: int = 0o600) -> None:
    (root / "dev").mkdir(exist_ok=True)
    node = root / "dev" / f"video{number}"
    node.touch()
    node.chmod(mode)
    folder = root / "classes" / node.name
    folder.mkdir(parents=True)
    (folder / "name").write_text(name + "\n")
    (folder / "index").write_text("0\n")


def test_cameras_are_listed_by_their_video_option_with_one_default(tmp_path: Path):
    fake_camera(tmp_path, 0, "Front")
    fake_camera(tmp_path, 2, "Side")
    found = devices.cameras(tmp_path / "dev", tmp_path / "classes")
    assert [(d.use, d.name, d.default) for d in found] == [
        (str(tmp_path / "dev/video0"), "Front", True), (str(tmp_path / "dev/video2"), "Side", False),
    ]  # fmt: skip


def test_the_command_lists_devices(capsys: pytest.CaptureFixture[str]):
    code = cli.main(["devices", "--json"])
    listed = json.loads(capsys.readouterr().out)
    assert code == (0 if any(not device["trouble"] for device in listed["devices"]) else 1)
    assert cli.main(["devices"]) == code
    assert "Traceback" not in capsys.readouterr().err


def exposure(folder: Path, text: str) -> float:
    path = folder / "moodring.service"
    path.write_text(text)
    assert subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=False).stderr == ""
    said = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", path], capture_output=True, text=True, check=False
    ).stdout
    line = next(line for line in said.splitlines() if "Overall exposure level" in line)
    return float(line.split(":")[1].split()[0])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("video", ["default", "rtsp://camera.local/stream"])
def test_the_unit_is_valid_and_hardened(tmp_path: Path, video: str):
    config = tmp_path / "config.yaml"
    config.write_text(f"video: {{source: '{video}'}}\n")
    assert exposure(tmp_path, unit.unit_text(config, "/usr/bin/python3")) <= 2.5


def test_the_unit_allows_network_access_only_if_the_configuration_needs_it(tmp_path: Path):
    config = tmp_path / "config.yaml"
    config.write_text("video: {source: 'http://camera.local/'}\n")
    assert "IPAddressDeny" in unit.unit_text(None)
    text = unit.unit_text(config)
    assert "IPAddressDeny" not in text
    assert f"--config {config}" in text


def test_a_service_with_an_invalid_configuration_is_not_installed(tmp_path: Path):
    config = tmp_path / "config.yaml"
    config.write_text("vidio: {source: none}\n")
    with pytest.raises(ConfigError, match="did you mean video"):
        unit.install(config, tmp_path / "moodring.service")
    assert not (tmp_path / "moodring.service").exists()


def test_a_missing_systemd_is_reported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(unit.shutil, "which", lambda _: None)
    for action in ("install", "status", "remove"):
        assert cli.main(["service", action]) == 2
        assert "systemd is not running on this machine" in capsys.readouterr().err


def test_removing_a_service_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(unit, "_require_systemd", lambda: None)
    for action in (unit.status, unit.remove):
        with pytest.raises(UsageError, match="there is no"):
            action(tmp_path / "moodring.service")
