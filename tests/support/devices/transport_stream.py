"""Simulated cameras with sound that send MPEG-TS over UDP or RTSP, as encoders, drones and phones do."""

from __future__ import annotations

import contextlib
import functools
import itertools
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable

import av
import numpy as np

from tests.support.devices.pluggable import PluggableDevice, serve_in_thread
from tests.support.signals import face_frame, voice

FPS, RATE_HZ, DURATION_S = 15, 48_000, 40
PACKET_BYTES = 7 * 188  # seven MPEG-TS packets fit into one Ethernet datagram
MP2T = 33  # the RTP payload type of MPEG-TS
RTP_CLOCK_HZ = 90_000


@functools.cache
def _encode_clip() -> list[list[bytes]]:
    """Encode a face (H.264) and a voice (AAC) once; return the packets to send with each frame."""
    sound = np.tile(voice(2.0, RATE_HZ), 2)
    packets: list[list[bytes]] = []
    pending = bytearray()

    class Writer:
        def write(self, data: bytes) -> int:
            pending.extend(data)
            while len(pending) >= PACKET_BYTES:
                packets[-1].append(bytes(pending[:PACKET_BYTES]))
                del pending[:PACKET_BYTES]
            return len(data)

    samples_per_frame = RATE_HZ // FPS
    packets.append([])
    with av.open(Writer(), "w", format="mpegts", options={"flush_packets": "1"}, buffer_size=PACKET_BYTES) as container:
        video = container.add_stream("libx264", rate=FPS)
        video.width, video.height, video.pix_fmt = 320, 240, "yuv420p"
        video.options = {"preset": "ultrafast", "tune": "zerolatency", "g": str(FPS)}
        audio = container.add_stream("aac", rate=RATE_HZ, layout="mono")
        for index in range(FPS * DURATION_S):
            packets.append([])
            frame = av.VideoFrame.from_ndarray(face_frame(index % 60), format="gray")
            frame.pts = index
            container.mux(video.encode(frame))
            start = index * samples_per_frame % (sound.size // 2)
            block = av.AudioFrame.from_ndarray(
                sound[None, start : start + samples_per_frame].astype(np.float32), format="fltp", layout="mono"
            )
            block.sample_rate, block.pts = RATE_HZ, index * samples_per_frame
            container.mux(audio.encode(block))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    return packets


def send_realtime(send: Callable[[bytes], None], stopping: threading.Event) -> None:
    """Repeat the clip in real time until `stopping` is set or the connection is closed."""
    due = time.monotonic()
    with contextlib.suppress(OSError):
        for packets in itertools.cycle(_encode_clip()):
            for packet in packets:
                send(packet)
            due += 1 / FPS
            if stopping.wait(max(0.0, due - time.monotonic())):
                return


class UdpCamera(PluggableDevice):
    """A camera that sends to a UDP port of this machine, whether or not a program listens."""

    def __init__(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            self._address = free.getsockname()
        _encode_clip()
        self.plug_in()

    @property
    def url(self) -> str:
        return f"udp://127.0.0.1:{self._address[1]}"

    def plug_in(self) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._play, args=(self._stopping,), daemon=True)
        self._thread.start()

    def _play(self, stopping: threading.Event) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:

            def send(packet: bytes) -> None:
                with contextlib.suppress(ConnectionRefusedError):
                    channel.sendto(packet, self._address)

            send_realtime(send, stopping)

    def unplug(self) -> None:
        self._stopping.set()
        self._thread.join(10)


class _Session(socketserver.StreamRequestHandler):
    """The RTSP connection of one client. RTP packets are interleaved with the responses (RFC 2326, section 10.12)."""

    server: _Server

    def handle(self) -> None:
        write_lock, stopping = threading.Lock(), threading.Event()
        sequence_numbers = itertools.count()

        def send(packet: bytes) -> None:
            ticks = int(time.monotonic() * RTP_CLOCK_HZ) & 0xFFFF_FFFF
            rtp = struct.pack(">BBHII", 0x80, MP2T, next(sequence_numbers) & 0xFFFF, ticks, 1) + packet
            with write_lock:
                self.wfile.write(struct.pack(">cBH", b"$", 0, len(rtp)) + rtp)

        try:
            while not self.server.unplugged.is_set() and (request := self._read_request()):
                method, number = request
                with write_lock:
                    self.wfile.write(self._response(method, number))
                if method == "PLAY":
                    threading.Thread(target=send_realtime, args=(send, stopping), daemon=True).start()
        except OSError:
            pass
        finally:
            stopping.set()

    def _read_request(self) -> tuple[str, str] | None:
        """Return method and sequence number of the next request, or None at the end; skip the client's RTCP reports."""
        while (first := self.rfile.read(1)) == b"$":
            _, length = struct.unpack(">BH", self.rfile.read(3))
            self.rfile.read(length)
        if not first:
            return None
        lines = [(first + self.rfile.readline()).decode().strip()]
        while line := self.rfile.readline().decode().strip():
            lines.append(line)
        number = next(line.split(":")[1].strip() for line in lines if line.lower().startswith("cseq:"))
        return lines[0].split()[0], number

    def _response(self, method: str, number: str) -> bytes:
        head, body = [f"RTSP/1.0 200 OK\r\nCSeq: {number}", "Session: 1"], ""
        if method == "OPTIONS":
            head.append("Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN")
        if method == "DESCRIBE":
            body = f"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP {MP2T}\r\na=control:track1\r\n"
            head += ["Content-Type: application/sdp", f"Content-Length: {len(body)}"]
        if method == "SETUP":
            head.append("Transport: RTP/AVP/TCP;unicast;interleaved=0-1")
        return ("\r\n".join(head) + "\r\n\r\n" + body).encode()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True

    def __init__(self, port: int) -> None:
        self.unplugged = threading.Event()
        self.clients: list[socket.socket] = []
        super().__init__(("127.0.0.1", port), _Session)

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        self.clients.append(request)
        super().process_request(request, client_address)

    def disconnect_clients(self) -> None:
        """End all streams."""
        self.unplugged.set()
        for client in self.clients:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)


class RtspCamera(PluggableDevice):
    """An RTSP server that sends each client its own stream."""

    def __init__(self) -> None:
        self._port = 0
        _encode_clip()
        self.plug_in()

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self._port}/live"

    def plug_in(self) -> None:
        self._server = _Server(self._port)
        self._port = self._server.server_address[1]
        serve_in_thread(self._server)

    def unplug(self) -> None:
        self._server.disconnect_clients()
        self._server.shutdown()
        self._server.server_close()
