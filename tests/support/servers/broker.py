"""A real Mosquitto broker with its own port and configuration, which a test can kill and restart; and an MQTT subscriber."""

from __future__ import annotations

import datetime as dt
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import pytest

MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/sbin")


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Broker:
    """A broker whose files lie in `folder`; the context manager starts and kills it.

    `lines` are configuration lines about access; by default anonymous clients are allowed. Skips the test if Mosquitto or
    paho-mqtt is not installed.
    """

    def __init__(self, folder: Path, *lines: str) -> None:
        if MOSQUITTO is None:
            pytest.skip("no mosquitto: sudo apt-get install mosquitto")
        self._program = MOSQUITTO
        pytest.importorskip("paho.mqtt.client", reason="no paho-mqtt: pip install 'moodring[mqtt]'")
        self.port = free_port()
        self._folder = folder
        self._config = folder / "mosquitto.conf"
        access_lines = lines or ("allow_anonymous true",)
        persistence = ["persistence true", f"persistence_location {folder}/", "autosave_interval 1"]
        self._config.write_text("\n".join([f"listener {self.port} 127.0.0.1", "user root", *persistence, *access_lines, ""]))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start the broker and wait until it accepts connections."""
        with (self._folder / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen([self._program, "-v", "-c", str(self._config)], stdout=log, stderr=log)
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.port), 0.2).close()
            except OSError:
                assert self._process.poll() is None, (self._folder / "mosquitto.log").read_text()
                threading.Event().wait(0.02)
            else:
                return
        raise AssertionError("mosquitto does not accept connections")

    def log(self) -> str:
        """Return the log of all runs of this broker."""
        return (self._folder / "mosquitto.log").read_text()

    def save(self) -> None:
        """Make the broker write its sessions to disk now, so that they survive a SIGKILL; wait until it has."""
        assert self._process is not None
        before = self._saved_ns()
        self._process.send_signal(signal.SIGUSR1)
        for _ in range(500):
            if self._saved_ns() != before:
                return
            threading.Event().wait(0.02)
        raise AssertionError("mosquitto did not save its sessions within 10 s")

    def _saved_ns(self) -> int:
        file = self._folder / "mosquitto.db"
        return file.stat().st_mtime_ns if file.exists() else 0

    def kill(self, sig: signal.Signals = signal.SIGKILL) -> None:
        """End the broker with a signal and wait until it has ended."""
        if self._process is not None:
            self._process.send_signal(sig)
            self._process.wait()
            self._process = None


class Subscriber:
    """Collects the messages of a topic filter, across restarts of the broker. A context manager.

    `messages` are (topic, payload, retained). `options` are `username` and `password`, or `ca_file` for TLS.
    """

    def __init__(self, port: int, topic: str, **options: Any) -> None:
        import paho.mqtt.client as paho  # noqa: PLC0415  an optional dependency

        self.messages: list[tuple[str, bytes, bool]] = []
        self._changed = threading.Condition()
        self._subscribed = threading.Event()
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=f"test-{free_port()}", clean_session=False)
        if "username" in options:
            self._client.username_pw_set(options["username"], options["password"])
        if "ca_file" in options:
            self._client.tls_set(str(options["ca_file"]))
        self._client.reconnect_delay_set(0.1, 0.5)
        self._client.on_connect = lambda client, *_: client.subscribe(topic, qos=1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_disconnect = lambda *_: self._subscribed.clear()
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port, keepalive=5)

    def __enter__(self) -> Self:
        self._client.loop_start()
        assert self._subscribed.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def wait_until_connected(self) -> None:
        """Wait until the subscription is active, at first or after a restart of the broker."""
        assert self._subscribed.wait(30)

    def _on_message(self, _client: object, _userdata: object, message: Any) -> None:
        with self._changed:
            self.messages.append((message.topic, message.payload, message.retain))
            self._changed.notify_all()

    def payloads(self, topic: str) -> list[str]:
        """Return the payloads of the topics whose last level is `topic`, in order of arrival."""
        return [payload.decode() for name, payload, _ in list(self.messages) if name.endswith("/" + topic)]

    def wait_for(self, condition: Callable[[Subscriber], bool], seconds: float = 15.0) -> None:
        """Wait until the condition is true after a message; fail after `seconds`."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self), seconds), (
                f"the last messages were {[m[:2] for m in self.messages[-5:]]}"
            )


def write_certificates(
    folder: Path, *, expired: bool = False, names: str = "DNS:localhost,IP:127.0.0.1"
) -> tuple[Path, Path, Path]:
    """Create a certificate authority and a server certificate for `names` signed by it.

    Return the paths of the authority's certificate, the server's certificate and its key. Skips the test without OpenSSL.
    """
    if shutil.which("openssl") is None:
        pytest.skip("no openssl: sudo apt-get install openssl")
    folder.mkdir(parents=True, exist_ok=True)
    ca, ca_key, server, key, request = (
        folder / name for name in ("ca.pem", "ca.key", "server.pem", "server.key", "server.csr")
    )
    extensions = folder / "extensions"
    extensions.write_text(f"subjectAltName={names}\n")
    create = ["openssl", "req", "-newkey", "rsa:2048", "-nodes"]
    _openssl([*create, "-x509", "-days", "2", "-subj", f"/CN=test authority {folder.name}", "-keyout", ca_key, "-out", ca])
    _openssl([*create, "-subj", "/CN=localhost", "-keyout", key, "-out", request])
    if expired:
        _sign_expired(folder, ca, ca_key, request, server, extensions)
    else:
        sign = ["openssl", "x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-out", server]
        _openssl([*sign, "-days", "2", "-extfile", extensions])
    return ca, server, key


def _sign_expired(folder: Path, ca: Path, ca_key: Path, request: Path, server: Path, extensions: Path) -> None:
    """Sign a certificate that has expired. In OpenSSL 3.0 only `openssl ca` accepts dates."""
    (folder / "index.txt").write_text("")
    (folder / "serial").write_text("01\n")
    config = folder / "ca.conf"
    config.write_text(
        f"[ca]\ndefault_ca=it\n[it]\ndatabase={folder}/index.txt\nserial={folder}/serial\nnew_certs_dir={folder}\n"
        "default_md=sha256\npolicy=any\n[any]\ncommonName=supplied\n"
    )
    dates = ["-startdate", "20200101000000Z", "-enddate", f"{dt.datetime.now(dt.UTC).year - 1}0101000000Z"]
    sign = ["openssl", "ca", "-batch", "-config", config, "-cert", ca, "-keyfile", ca_key, "-in", request, "-out", server]
    _openssl([*sign, *dates, "-extfile", extensions])


def _openssl(command: Sequence[object]) -> None:
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
