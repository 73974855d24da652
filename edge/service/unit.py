"""Systemd service: `moodring service install|status|remove`. The unit grants only the rights that moodring needs."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from moodring import config as configuration
from moodring.address import is_loopback, is_url
from moodring.errors import UsageError

UNIT = Path("/etc/systemd/system/moodring.service")
TEMPLATE = Path(__file__).with_name("moodring.service")
RELOAD = "ExecReload=/bin/kill -HUP $MAINPID\n"
DENY_NETWORK = """# The configuration uses this machine only: no source, sink or server is on the network.
IPAddressDeny=any
IPAddressAllow=localhost"""


def unit_text(config: Path | None, python: str = sys.executable) -> str:
    """Return the text of the unit that runs moodring with a configuration file.

    The unit blocks the network if the configuration does not use it. Raises ConfigError if the configuration is invalid:
    a service that cannot start is not installed.
    """
    reload = ""
    command = [python, "-m", "moodring.cli", "run"]
    parsed = configuration.Config()
    if config is not None:
        parsed = configuration.load(config)
        command += ["--config", str(config.resolve())]
        reload = RELOAD
    network = "" if _uses_network(parsed) else DENY_NETWORK
    return TEMPLATE.read_text(encoding="utf-8").format(command=shlex.join(command), reload=reload, network=network)


def _uses_network(config: configuration.Config) -> bool:
    """Return whether a source or sink is a URL, LSL is enabled, or a server listens on an address off loopback."""
    inputs = [config.video, config.audio]
    for stream in config.streams.values():
        inputs += [stream.video, stream.audio]
    addresses = [config.mqtt.url, *(source.source for source in inputs)]
    hosts = [server.host for server in (config.metrics, config.page) if server.enabled]
    return any(map(is_url, addresses)) or config.lsl.enabled or not all(map(is_loopback, hosts))


def install(config: Path | None, unit: Path = UNIT) -> int:
    """Write the unit, reload systemd, and start the service now and at every boot. Return the exit code.

    Raises ConfigError if the configuration is invalid, UsageError if the unit cannot be written or systemd fails.
    """
    text = unit_text(config)
    _require_systemd()
    try:
        unit.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"{unit} cannot be written ({error.strerror}); run this as root: sudo {_command_line('install')}"
        ) from error
    _systemctl("daemon-reload")
    _systemctl("enable", "--now", unit.name)
    print(f"wrote {unit} and started the service; it also starts at every boot")
    print("state: moodring service status; log: journalctl -u moodring")
    return 0


def remove(unit: Path = UNIT) -> int:
    """Stop the service and delete its unit; keep its data in /var/lib/moodring. Return the exit code.

    Raises UsageError if there is no unit, if it cannot be deleted, or if systemd fails.
    """
    _require_systemd()
    if not unit.exists():
        raise UsageError(f"{unit} does not exist: there is no service to remove")
    if not os.access(unit.parent, os.W_OK):
        raise UsageError(f"{unit} cannot be removed; run this as root: sudo {_command_line('remove')}")
    _systemctl("disable", "--now", unit.name)
    unit.unlink()
    _systemctl("daemon-reload")
    print(f"removed {unit}")
    return 0


def status(unit: Path = UNIT) -> int:
    """Print the state of the service as systemd reports it; return 0 if the service runs, else 1."""
    _require_systemd()
    if not unit.exists():
        raise UsageError(f"{unit} does not exist: there is no service; install it with moodring service install")
    done = subprocess.run(["systemctl", "--no-pager", "status", unit.name], check=False)  # noqa: S603, S607  see _systemctl
    return int(done.returncode != 0)


def _command_line(action: str) -> str:
    return shlex.join([sys.executable, "-m", "moodring.cli", "service", action])


def _require_systemd() -> None:
    if not Path("/run/systemd/system").is_dir() or shutil.which("systemctl") is None:
        raise UsageError("systemd is not running on this machine; start `moodring run` with the init system that it uses")


def _systemctl(*arguments: str) -> None:
    # The path of systemctl differs between distributions. All arguments are constants of this module.
    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False)  # noqa: S603, S607
    if done.returncode:
        raise UsageError(f"systemctl {' '.join(arguments)} failed: {done.stderr.strip() or done.stdout.strip()}")
