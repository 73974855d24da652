"""A camera with sound that speaks MPEG-TS, as encoders, drones and phones do: sent over UDP, or asked for over RTSP."""

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
from typing import Self

import av
import numpy as np

from tests.support.signals import face_frame, voice

FPS, RATE_HZ, DURATION_S = 15, 48_000, 40
PACKET_BYTES = 7 * 188  # bytes: what fits into one datagram of an Ethernet
MP2T = 33  # RTP's payload type for it
CLOCK_HZ = 90_000


@functools.cache
def _encode_clip() -> list[list[bytes]]:
    """A face (H.264) and a voice (AAC), encoded once: the packets that go out with each picture."""
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
            at = index * samples_per_frame % (sound.size // 2)
            block = av.AudioFrame.from_ndarray(
                sound[None, at : at + samples_per_frame].astype(np.float32), format="fltp", layout="mono"
            )
            block.sample_rate, block.pts = RATE_HZ, index * samples_per_frame
            container.mux(audio.encode(block))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    return packets


def send_realtime(send: Callable[[bytes], None], stopping: threading.Event) -> None:
    """Send in real time until told to stop, or until nobody takes it."""
    due = time.monotonic()
    with contextlib.suppress(OSError):
        for packets in itertools.cycle(_encode_clip()):
            for packet in packets:
                send(packet)
            due += 1 / FPS
            if stopping.wait(max(0.0, due - time.monotonic())):
                return


class UdpCamera:
    """Sends to a port of this machine, whether or not anybody listens. Use as a context."""

    def __init__(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            self._to = free.getsockname()
        _encode_clip()
        self.plug_in()

    @property
    def url(self) -> str:
        return f"udp://127.0.0.1:{self._to[1]}"

    def plug_in(self) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._play, args=(self._stopping,), daemon=True)
        self._thread.start()

    def _play(self, stopping: threading.Event) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:

            def send(packet: bytes) -> None:
                with contextlib.suppress(ConnectionRefusedError):
                    channel.sendto(packet, self._to)

            send_realtime(send, stopping)

    def unplug(self) -> None:
        self._stopping.set()
        self._thread.join(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.unplug()


class _Session(socketserver.StreamRequestHandler):
    """One client: it describes, sets up and plays, and what it asked for comes between the answers ($, channel, length)."""

    server: _Server

    def handle(self) -> None:
        sending, stopping = threading.Lock(), threading.Event()
        numbers = itertools.count()

        def send(packet: bytes) -> None:
            ticks = int(time.monotonic() * CLOCK_HZ) & 0xFFFF_FFFF
            rtp = struct.pack(">BBHII", 0x80, MP2T, next(numbers) & 0xFFFF, ticks, 1) + packet
            with sending:
                self.wfile.write(struct.pack(">cBH", b"$", 0, len(rtp)) + rtp)

        try:
            while not self.server.unplugged.is_set() and (asked := self._read_request()):
                method, number = asked
                with sending:
                    self.wfile.write(self._response(method, number))
                if method == "PLAY":
                    threading.Thread(target=send_realtime, args=(send, stopping), daemon=True).start()
        except OSError:
            pass
        finally:
            stopping.set()

    def _read_request(self) -> tuple[str, str] | None:
        """Return the next request's method and number; the client's own reports on what it gets are left out."""
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
        super().process_request(request, client_address)  # type: ignore[arg-type]

    def unplug(self) -> None:
        self.unplugged.set()
        for client in self.clients:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)


class RtspCamera:
    """Answers at rtsp://; everybody who plays it gets a stream of their own. Use as a context."""

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
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def unplug(self) -> None:
        self._server.unplug()
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.unplug()
