"""Network access of the systemd unit that `moodring service install` writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from moodring.service.unit import unit_text

DENY_LINES = {"IPAddressDeny=any", "IPAddressAllow=localhost"}


def network_lines(folder: Path, configuration: str) -> set[str]:
    """Return the lines of the unit that restrict IP addresses."""
    path = folder / "config.yaml"
    path.write_text(configuration)
    return {line for line in unit_text(path).splitlines() if line.startswith("IPAddress")}


@pytest.mark.parametrize("section", ["page", "metrics"])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "moodring.local"])  # noqa: S104  compared, not bound
def test_unit_allows_network_for_server_off_loopback(tmp_path: Path, section: str, host: str):
    assert network_lines(tmp_path, f"{section}: {{enabled: true, host: '{host}'}}\n") == set()


@pytest.mark.parametrize("section", ["page", "metrics"])
@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_unit_denies_network_for_server_on_loopback(tmp_path: Path, section: str, host: str):
    assert network_lines(tmp_path, f"{section}: {{enabled: true, host: '{host}'}}\n") == DENY_LINES


@pytest.mark.parametrize("section", ["page", "metrics"])
def test_unit_ignores_host_of_disabled_server(tmp_path: Path, section: str):
    assert network_lines(tmp_path, f"{section}: {{enabled: false, host: '0.0.0.0'}}\n") == DENY_LINES


@pytest.mark.parametrize(
    "configuration",
    [
        "mqtt: {url: 'mqtts://broker.local'}\n",
        "lsl: {enabled: true}\n",
        "streams: {hall: {audio: {source: 'rtsp://camera.local/live'}}}\n",
    ],
)
def test_unit_allows_network_for_remote_sources_and_sinks(tmp_path: Path, configuration: str):
    assert network_lines(tmp_path, configuration) == set()
