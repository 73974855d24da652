"""`moodring service install|status|remove`: moodring as a service of systemd, with as few rights as it can do with."""

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
DENY_NETWORK = "# Neither camera, sinks nor metrics are on another machine.\nIPAddressDeny=any\nIPAddressAllow=localhost"


def unit_text(config: Path | None, python: str = sys.executable) -> str:
    """Return the unit for a configuration; where nothing in it is on the network, the unit may not reach the network.

    Raises ConfigError where the configuration is wrong: a service that cannot start is not installed.
    """
    reload = ""
    command = [python, "-m", "moodring.cli", "run"]
    parsed = configuration.Config()
    if config is not None:
        parsed = configuration.load(config)
        command += ["--config", str(config.resolve())]
        reload = RELOAD
    inputs = [parsed.video, parsed.audio, *(part for one in parsed.streams.values() for part in (one.video, one.audio))]
    addresses = [parsed.mqtt.url, *(one.source for one in inputs)]
    hosts = [server.host for server in (parsed.metrics, parsed.page) if server.enabled]
    remote = any(map(is_url, addresses)) or parsed.lsl.enabled or not all(map(is_loopback, hosts))
    template = TEMPLATE.read_text(encoding="utf-8")
    return template.format(command=shlex.join(command), reload=reload, network="" if remote else DENY_NETWORK)


def install(config: Path | None, unit: Path = UNIT) -> int:
    """Write the unit, let systemd read it, and start it now and at every boot."""
    text = unit_text(config)
    _require_systemd()
    try:
        unit.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"{unit} cannot be written ({error.strerror}); run it as root: sudo {_command_line('install')}"
        ) from error
    _systemctl("daemon-reload")
    _systemctl("enable", "--now", unit.name)
    print(f"wrote {unit} and started it; it watches and listens from now on and at every boot")
    print("what it does: moodring service status; its messages: journalctl -u moodring")
    return 0


def remove(unit: Path = UNIT) -> int:
    """Stop the service and take its unit away; what it kept in /var/lib/moodring stays."""
    _require_systemd()
    if not unit.exists():
        raise UsageError(f"there is no {unit}: nothing to remove")
    if not os.access(unit.parent, os.W_OK):
        raise UsageError(f"{unit} cannot be removed; run it as root: sudo {_command_line('remove')}")
    _systemctl("disable", "--now", unit.name)
    unit.unlink()
    _systemctl("daemon-reload")
    print(f"removed {unit}")
    return 0


def status(unit: Path = UNIT) -> int:
    """Show what systemd knows of the service; return 0 where it runs."""
    _require_systemd()
    if not unit.exists():
        raise UsageError(f"there is no {unit}: install it with moodring service install")
    done = subprocess.run(["systemctl", "--no-pager", "status", unit.name], check=False)  # noqa: S603, S607  see _systemctl
    return int(done.returncode != 0)


def _command_line(action: str) -> str:
    return shlex.join([sys.executable, "-m", "moodring.cli", "service", action])


def _require_systemd() -> None:
    if not Path("/run/systemd/system").is_dir() or shutil.which("systemctl") is None:
        raise UsageError("systemd does not run this machine; start `moodring run` from what does")


def _systemctl(*arguments: str) -> None:
    # Its place differs between distributions, and its arguments are ours.
    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False)  # noqa: S603, S607
    if done.returncode:
        raise UsageError(f"systemctl {' '.join(arguments)} failed: {done.stderr.strip() or done.stdout.strip()}")
