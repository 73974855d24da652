"""Runs a command in namespaces of its own and records what it asks of the network and what it leaves on the disk.

The network has one interface, loopback, and every address leads to it: a name server of ours answers every look-up with "no
such name", and a packet socket records every packet, whatever its destination. The file tree is an overlay: a file that the
command creates, changes or deletes anywhere lies in the upper layer. Nothing of this needs a tracer.

usage (in the namespaces): python -m tests.support.audit SCRATCH HOME COMMAND...; HOME is a value of Home
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

Home = Literal["fresh", "read-only", "none"]  # none: HOME is not set, and no account has the user id

HOME, WORK = "/home/moodring-audit", "/srv/moodring-audit"
SHARED_MEMORY = "/dev/shm"  # noqa: S108  a place to watch
ETC = {
    "/etc/resolv.conf": "nameserver 127.0.0.1\n",
    "/etc/nsswitch.conf": "hosts: files dns\npasswd: files\n",
    "/etc/passwd": "nobody:x:65534:65534::/:/bin/false\n",
}
PYTHONPATH = os.pathsep.join([str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")])
CLEAN = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
UNSHARE = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child"]
PSEUDO = ("proc", "sysfs", "devtmpfs", "devpts", "mqueue", "hugetlbfs", "debugfs", "tracefs", "securityfs", "bpf", "pstore")
ETH_P_ALL = 3
POLL_S = 0.01
TIMEOUT_S = 300
TCP, UDP = 6, 17
LISTENING, UNCONNECTED = "0A", "07"  # states in /proc/net/tcp and /proc/net/udp


@dataclass(frozen=True)
class Audit:
    """What a command did. `packets` holds `tcp ADDRESS:PORT` of a connection attempt and `udp ADDRESS:PORT` of a datagram.

    `listening` holds the addresses of sockets that wait for others. `files` maps each file that was written to its mode, or to
    -1 if it was deleted; files that were deleted again do not appear.
    """

    code: int
    stdout: str
    stderr: str
    lookups: list[str]
    packets: list[str]
    listening: list[str]
    files: dict[str, int]


def unavailable() -> str | None:
    """Return why this machine cannot run an audit, or None if it can."""
    missing = [tool for tool in ("unshare", "ip", "mount") if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} not installed"
    if os.geteuid() != 0:
        return "an overlay over the whole file tree needs root"
    script = "ip link set lo up && mount -t tmpfs t /mnt && mkdir /mnt/u /mnt/w /mnt/m && " + _overlay("/", "/mnt")
    done = subprocess.run([*UNSHARE, "sh", "-c", script], capture_output=True, text=True, check=False)
    return f"no namespaces with overlays: {done.stderr.strip()}" if done.returncode else None


def audit(
    command: Sequence[object], scratch: Path, *, home: Home = "fresh", environment: Mapping[str, str] | None = None
) -> Audit:
    """Run a command to its end and return what it did. `scratch` is an empty folder that is covered meanwhile."""
    inside = [sys.executable, "-m", "tests.support.audit", str(scratch), home, *map(str, command)]
    variables = CLEAN | {"PYTHONPATH": PYTHONPATH, **(environment or {})}
    if home != "none":
        variables["HOME"] = HOME
    done = subprocess.run([*UNSHARE, *inside], capture_output=True, text=True, env=variables, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr
    return Audit(**json.loads(done.stdout))


def _overlay(lower: str, layers: str, target: str | None = None) -> str:
    options = f"lowerdir={lower},upperdir={layers}/u,workdir={layers}/w"
    return f"mount -t overlay overlay -o '{options}' '{target or layers + '/m'}'"


# Inside the namespaces


def main(scratch: str, home: str, command: list[str]) -> None:
    """Print the audit of a command as JSON."""
    root, uppers = _cover_file_tree(scratch)
    _make_home(root, home)
    for line in ("link set lo up", "route add local default dev lo", "-6 route add local default dev lo"):
        subprocess.run(["ip", *line.split()], check=True)
    with _NetworkLog() as network:
        os.chroot(root)
        os.chdir(WORK)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
            network.watch(process)
            stdout, stderr = (data.decode("utf-8", "replace") for data in network.output)
        time.sleep(0.2)  # packets that are under way
    files = {path: mode for upper, mounted in uppers for path, mode in _changes(upper, mounted)}
    lookups, packets, listening = (sorted(found) for found in network.found)
    print(json.dumps(dataclasses.asdict(Audit(process.returncode, stdout, stderr, lookups, packets, listening, files))))


def _cover_file_tree(scratch: str) -> tuple[str, list[tuple[int, str]]]:
    """Lay an overlay over every mounted file system; return the new root, and the upper layers with their mount points.

    An upper layer is an open folder: it stays within reach after the root changes.
    """
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()]
    kinds = {fields[4].replace("\\040", " "): fields[fields.index("-") + 1] for fields in mounts}
    _mount("-t tmpfs tmpfs", scratch)
    root, uppers = "", []
    for number, (mounted, kind) in enumerate(sorted(kinds.items())):
        if kind in PSEUDO or kind.startswith("cgroup") or mounted.startswith(("/dev", "/proc", "/sys")):
            continue
        if not Path(mounted).is_dir():
            continue
        layers = f"{scratch}/{number}"
        for name in "uwm":
            Path(layers, name).mkdir(parents=True)
        root = root or f"{layers}/m"
        target = root if mounted == "/" else root + mounted
        subprocess.run(["sh", "-c", _overlay(mounted, layers, target)], check=True)
        uppers.append((os.open(f"{layers}/u", os.O_RDONLY), "" if mounted == "/" else mounted))
    _mount("-t proc proc", f"{root}/proc")
    for name in ("dev", "sys"):
        _mount(f"--rbind /{name}", f"{root}/{name}")
    _mount("-t tmpfs tmpfs", root + SHARED_MEMORY)
    uppers.append((os.open(root + SHARED_MEMORY, os.O_RDONLY), SHARED_MEMORY))
    return root, uppers


def _make_home(root: str, home: str) -> None:
    """Create the home and the working directory, and replace the files of /etc that name servers and accounts."""
    for folder in (HOME, WORK):
        Path(root + folder).mkdir(parents=True)
    if home == "read-only":
        _mount("-t tmpfs -o ro tmpfs", root + HOME)
    for path, text in ETC.items():
        if home == "none" or path != "/etc/passwd":
            file = Path(root + path)
            file.unlink(missing_ok=True)
            file.write_text(text, encoding="ascii")


def _mount(what: str, where: str) -> None:
    subprocess.run(["mount", *what.split(), where], check=True)


def _changes(upper: int, mounted: str) -> Iterator[tuple[str, int]]:
    """Yield the path and the mode of each file in an upper layer."""
    for folder, _, names, fd in os.fwalk(".", dir_fd=upper):
        for name in names:
            path = os.path.normpath(f"{mounted}/{folder}/{name}")
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            deleted = status.st_rdev == 0 and (status.st_mode & 0o170000) == 0o020000
            if path not in ETC:
                yield path, -1 if deleted else status.st_mode & 0o7777


class _NetworkLog:
    """Records look-ups, packets and waiting sockets."""

    def __init__(self) -> None:
        self.found: tuple[set[str], set[str], set[str]] = (set(), set(), set())  # look-ups, packets, listening
        self.output = (b"", b"")
        self._sockets = [
            socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL)),
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        ]

    def __enter__(self) -> Self:
        packets, names = self._sockets
        names.bind(("127.0.0.1", 53))
        for work in (lambda: self._record_packets(packets), lambda: self._answer(names)):
            threading.Thread(target=work, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        pass  # the threads end with this process

    def watch(self, process: subprocess.Popen[bytes]) -> None:
        """Read the output of a process and look for waiting sockets until it ends."""
        own = set(_waiting_sockets())
        reader = threading.Thread(target=lambda: setattr(self, "output", process.communicate()))
        reader.start()
        while reader.is_alive():
            self.found[2].update(address for inode, address in _waiting_sockets() if (inode, address) not in own)
            reader.join(POLL_S)

    def _answer(self, names: socket.socket) -> None:
        while True:
            query, client = names.recvfrom(2048)
            labels, at = [], 12
            while query[at]:
                labels.append(query[at + 1 : at + 1 + query[at]].decode("latin-1"))
                at += 1 + query[at]
            self.found[0].add(".".join(labels))
            names.sendto(query[:2] + b"\x81\x83" + query[4:6] + bytes(6) + query[12:], client)  # no such name

    def _record_packets(self, packets: socket.socket) -> None:
        while True:
            packet = packets.recv(65536)
            if packet[0] >> 4 == 4:
                protocol, target, start = packet[9], socket.inet_ntop(socket.AF_INET, packet[16:20]), (packet[0] & 15) * 4
            else:
                protocol, target, start = packet[6], socket.inet_ntop(socket.AF_INET6, packet[24:40]), 40
            if protocol not in (TCP, UDP):
                continue  # answers of the kernel
            source, port = struct.unpack_from("!HH", packet, start)
            if protocol == TCP and packet[start + 13] & 0x12 == 0x02:  # SYN without ACK
                self.found[1].add(f"tcp {target}:{port}")
            elif protocol == UDP and 53 not in (source, port):
                self.found[1].add(f"udp {target}:{port}")


def _waiting_sockets() -> Iterator[tuple[str, str]]:
    """Yield the inode and the address of each socket of this network that waits for others."""
    for table, state in (("tcp", LISTENING), ("tcp6", LISTENING), ("udp", UNCONNECTED), ("udp6", UNCONNECTED)):
        with contextlib.suppress(FileNotFoundError):
            for line in Path(f"/proc/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == state:
                    address, port = fields[1].split(":")
                    yield fields[9], f"{table} {_address(address)}:{int(port, 16)}"
    for line in Path("/proc/net/unix").read_text(encoding="utf-8", errors="replace").splitlines()[1:]:
        fields = line.split(maxsplit=7)
        if len(fields) > 7:
            yield fields[6], f"unix {fields[7]}"


def _address(text: str) -> str:
    """Return an address of /proc/net: 32 bit words of the machine's byte order in hexadecimal."""
    words = b"".join(int(text[i : i + 8], 16).to_bytes(4, sys.byteorder) for i in range(0, len(text), 8))
    return socket.inet_ntop(socket.AF_INET if len(words) == 4 else socket.AF_INET6, words)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
