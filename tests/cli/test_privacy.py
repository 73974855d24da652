"""What each command asks of the network and leaves on the disk: nothing but what the configuration and docs/privacy.md name.

Every command runs in namespaces of its own (tests/support/audit.py), with a home directory that is empty, read-only or absent.
"""

from __future__ import annotations

import fnmatch
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.support.audit import HOME, WORK, Audit, Home, audit, unavailable
from tests.support.servers.broker import free_port
from tests.support.small_training import small_recipe, write_faces

pytestmark = [pytest.mark.live, pytest.mark.skipif(bool(reason := unavailable()), reason=f"no audit on this machine: {reason}")]

ROOT = Path(__file__).resolve().parents[2]
CLIP = ROOT / "edge" / "samples" / "clip.mp4"
PYTHON = sys.executable
MOODRING = f"{PYTHON} -m moodring.cli"
CUSTOM_NETWORK = """
from torch import nn
def face():
    return nn.Sequential(nn.Conv2d(1, 8, 3, 4), nn.ReLU(), nn.Conv2d(8, 8, 3, 4), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3))
"""
CUSTOM_BUNDLE = """
name: tiny
labels: [bored, delighted, calm]
spec: {face: {size: 48}}
face: {module: "custom_networks:face", temperature: 1.0, training: training.npz, judged: judged.npz}
"""


@pytest.fixture
def run_audit(tmp_path: Path) -> Callable[..., Audit]:
    """Return a function that runs a shell line and returns its audit. Its working directory is WORK."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    def run(script: str, home: Home = "fresh") -> Audit:
        return audit(["sh", "-ec", script], scratch, home=home)

    return run


def check(found: Audit, *, packets: set[str] = frozenset(), listening: set[str] = frozenset(), code: int = 0) -> None:
    """Fail on any look-up, packet and socket but these, and on a file that neither the command line nor the page names."""
    assert found.code == code, found.stderr
    assert "Traceback" not in found.stderr
    assert found.lookups == []
    assert set(found.packets) <= packets
    assert set(found.listening) == listening
    documented = documented_files()
    assert [path for path in found.files if not path.startswith(WORK) and not any(map(path_matcher(path), documented))] == []


def documented_files() -> list[str]:
    """Return the patterns in the table of files of docs/privacy.md."""
    text = (ROOT / "docs" / "privacy.md").read_text(encoding="utf-8")
    patterns = re.findall(r"^\| `([~/][^`]*)` \|", text, re.MULTILINE)
    assert patterns
    return [pattern.replace("~", HOME, 1) if pattern.startswith("~") else pattern for pattern in patterns]


def path_matcher(path: str) -> Callable[[str], bool]:
    return lambda pattern: fnmatch.fnmatchcase(path, pattern)


def test_the_audit_finds_look_ups_connections_sockets_and_files(run_audit: Callable[..., Audit]):
    code = """
import os, socket
try:
    socket.getaddrinfo("www.example.org", 443)
except OSError:
    pass
for family, address in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
    with socket.socket(family) as one:
        one.connect_ex((address, 443))
server, named = socket.create_server(("127.0.0.1", 8123)), socket.socket(socket.AF_UNIX)
named.bind("/tmp/audit-socket")
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("239.0.0.1", 16571))
for path in ("~/.device-id", "/tmp/audit", "/var/audit", "/dev/shm/audit"):
    open(os.path.expanduser(path), "w").close()
__import__("time").sleep(0.2)
"""
    found = run_audit(f"exec {PYTHON} -c '{code}'")
    assert found.lookups == ["www.example.org"]
    assert {"tcp 192.0.2.1:443", "tcp 2001:db8::1:443", "udp 239.0.0.1:16571"} <= set(found.packets)
    assert {"tcp 127.0.0.1:8123", "unix /tmp/audit-socket"} <= set(found.listening)
    assert {f"{HOME}/.device-id", "/tmp/audit", "/var/audit", "/dev/shm/audit"} <= set(found.files)  # noqa: S108


def test_a_run_of_fourteen_seconds_opens_no_socket_and_writes_its_events_alone(run_audit: Callable[..., Audit]):
    found = run_audit(f"umask 022; exec {MOODRING} run {CLIP} --events events.jsonl")
    check(found)
    assert found.files == {f"{WORK}/events.jsonl": 0o600}


def test_a_run_opens_the_sockets_that_its_configuration_names(run_audit: Callable[..., Audit], tmp_path: Path):
    pytest.importorskip("prometheus_client", reason="no prometheus_client: pip install 'moodring[metrics]'")
    page, metrics = free_port(), free_port()
    config = tmp_path / "config.yaml"
    config.write_text(
        f"events: {{path: events.jsonl, rotate_mb: 0.01}}\nmqtt: {{url: 'mqtt://127.0.0.1:1883'}}\n"
        f"page: {{enabled: true, host: 0.0.0.0, port: {page}}}\nmetrics: {{enabled: true, port: {metrics}}}\n"
    )
    found = run_audit(f"umask 022; exec {MOODRING} run {CLIP} --config {config} --seconds 6")
    check(found, packets={"tcp 127.0.0.1:1883"}, listening={f"tcp 0.0.0.0:{page}", f"tcp 127.0.0.1:{metrics}"})
    assert "tcp 127.0.0.1:1883" in found.packets
    assert len([path for path in found.files if path.startswith(f"{WORK}/events-")]) >= 2
    assert {mode for path, mode in found.files.items() if path.startswith((WORK, HOME))} == {0o600}
    names = {Path(path).name for path in found.files}
    assert {"page-token", "moodring-replay-clip-mp4.spool"} <= names


@pytest.mark.parametrize("command", ["doctor", "devices", "data list", "bench --seconds 1", "doctor --tune"])
def test_commands_about_the_machine(run_audit: Callable[..., Audit], command: str):
    check(run_audit(f"{MOODRING} {command} || test $? = 1"))


def test_report_and_replay(run_audit: Callable[..., Audit]):
    port = free_port()
    found = run_audit(
        f"umask 022; {MOODRING} run {CLIP} --pace max --events e.jsonl; {MOODRING} report e.jsonl --html e.html; "
        f"timeout -s INT 12 {MOODRING} replay e.jsonl --page --page-port {port} --speed 100 || test $? = 124"
    )
    check(found, listening={f"tcp 127.0.0.1:{port}"})
    assert found.files == {f"{WORK}/e.jsonl": 0o600, f"{WORK}/e.html": 0o600}


def test_training_export_and_evaluation(run_audit: Callable[..., Audit], tmp_path: Path):
    for library in ("torch", "onnxscript", "openvino", "nncf"):
        pytest.importorskip(library, reason=f"no {library}: pip install 'moodring[train,export]'")
    rng = np.random.default_rng(0)
    (tmp_path / "custom_networks.py").write_text(CUSTOM_NETWORK)
    (tmp_path / "custom.yaml").write_text(CUSTOM_BUNDLE)
    for name in ("training", "judged"):
        np.savez(tmp_path / f"{name}.npz", inputs=rng.integers(0, 256, (32, 48, 48), np.uint8), labels=np.arange(32) % 3)
    write_faces(tmp_path, rng)
    recipe = small_recipe(tmp_path, "face", epochs=1, after="")
    found = run_audit(
        f"{MOODRING} train face --config {recipe} --data {tmp_path} --out trained; "
        f"PYTHONPATH={tmp_path}:$PYTHONPATH {MOODRING} export {tmp_path}/custom.yaml --out bundle --formats onnx,openvino "
        "--calibration minmax --max-drop 100 --min-agreement 1; "
        f"{MOODRING} evaluate face --fer2013 {tmp_path}/fer2013.csv --json figures.json"
    )
    check(found)
    assert {f"{WORK}/bundle/bundle.json", f"{WORK}/trained/face.json", f"{WORK}/figures.json"} <= set(found.files)


def test_the_library_without_the_command_line(run_audit: Callable[..., Audit]):
    pytest.importorskip("openvino", reason="no openvino: pip install 'moodring[openvino]'")
    code = (
        "import time; from moodring import load_bundle; from moodring.inference.bundle import DEFAULT; "
        'b = load_bundle(DEFAULT); b.open("face"); b.open("face", "fp32", "openvino"); time.sleep(12)'
    )
    check(run_audit(f"ORT_DISABLE_TELEMETRY=0 exec {PYTHON} -c '{code}'"))


@pytest.mark.parametrize("home", ["none", "read-only"])
def test_without_a_home_directory_everything_else_works(run_audit: Callable[..., Audit], home: Home):
    found = run_audit(f"{MOODRING} run {CLIP} --pace max --events e.jsonl", home)
    check(found)
    assert len(found.stderr.splitlines()) == 1
    found = run_audit(f"{MOODRING} doctor", home)
    check(found)
    assert "fail " not in found.stdout


@pytest.mark.parametrize("home", ["none", "read-only"])
@pytest.mark.parametrize(
    ("command", "advice"),
    [
        ("doctor --tune", "set HOME or XDG_CACHE_HOME"),
        (f"run {CLIP} --pace max --config mqtt.yaml", "mqtt.spool.path"),
        (f"run {CLIP} --pace max --config page.yaml", "page.token_file"),
    ],
)
def test_what_needs_a_home_directory_says_so_once(run_audit: Callable[..., Audit], command: str, advice: str, home: Home):
    script = (
        "echo \"mqtt: {url: 'mqtt://127.0.0.1:1883'}\" > mqtt.yaml; "
        f'echo "page: {{enabled: true, host: 0.0.0.0}}" > page.yaml; exec {MOODRING} {command}'
    )
    found = run_audit(script, home)
    assert found.code in (1, 2)
    assert len(found.stderr.splitlines()) == 1, found.stderr
    assert (advice if home == "none" else advice.rsplit(maxsplit=1)[-1]) in found.stderr
