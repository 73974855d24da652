"""Sound passed through a lossy codec and back, with lost packets, as augmentation of training recordings."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np

from moodring.capture.sound import Resampler
from moodring.types import F32

PACKET_S = 0.02
CONCEALED_GAIN = 0.6  # of a repeated packet, relative to the packet before it


@dataclass(frozen=True, slots=True)
class Codec:
    """An encoder of FFmpeg: its name, sample format, sample rate, and the range of its bit rate in bits per second."""

    encoder: str
    sample_format: str
    rate_hz: int
    bits_per_s: tuple[int, int]


# The codecs of calls, web meetings, recordings and radio. AMR is the speech codec of GSM.
CODECS = (
    Codec("libopus", "s16", 16_000, (10_000, 32_000)),
    Codec("libopus", "s16", 8_000, (8_000, 16_000)),
    Codec("aac", "fltp", 16_000, (16_000, 48_000)),
    Codec("libmp3lame", "s16p", 16_000, (16_000, 48_000)),
    Codec("libopencore_amrnb", "s16", 8_000, (4_750, 12_200)),
    Codec("g722", "s16", 16_000, (64_000, 64_000)),
    Codec("pcm_mulaw", "s16", 8_000, (64_000, 64_000)),
)
DECODERS = {"libmp3lame": "mp3", "libopencore_amrnb": "amrnb"}  # where the name is not that of the encoder
AMR_BITS_PER_S = (4_750, 5_150, 5_900, 6_700, 7_400, 7_950, 10_200, 12_200)


def random_bits_per_s(codec: Codec, rng: np.random.Generator) -> int:
    """Return a bit rate of the codec, uniform in its logarithm."""
    if codec.encoder == "libopencore_amrnb":
        return int(rng.choice(AMR_BITS_PER_S))
    low, high = codec.bits_per_s
    return round(float(np.exp(rng.uniform(np.log(low), np.log(high)))))


def pass_through_codec(samples: F32, rate_hz: int, codec: Codec, bits_per_s: int) -> F32:
    """Encode and decode samples [N] in [-1, 1]; return float32 [N]. The delay of the codec stays in the result."""
    to_codec, from_codec = Resampler(codec.rate_hz), Resampler(rate_hz)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="flt", layout="mono")
    frame.sample_rate = rate_hz
    encoded_rate = np.concatenate([to_codec.push(frame), to_codec.flush()])
    encoder = av.CodecContext.create(codec.encoder, "w")
    if not isinstance(encoder, av.AudioCodecContext):
        raise TypeError(f"{codec.encoder} is not an audio encoder")
    encoder.sample_rate, encoder.format, encoder.layout = codec.rate_hz, codec.sample_format, "mono"
    encoder.time_base = Fraction(1, codec.rate_hz)
    if not codec.encoder.startswith("pcm"):
        encoder.bit_rate = bits_per_s
    encoder.open()
    size = encoder.frame_size or codec.rate_hz // 50
    count = -(-len(encoded_rate) // size) * size
    padded = np.zeros(count, np.float32)
    padded[: len(encoded_rate)] = encoded_rate
    if codec.sample_format != "fltp":
        padded = (np.clip(padded, -1.0, 1.0) * 32767).astype(np.int16)
    packets = []
    for start in range(0, count, size):
        piece = av.AudioFrame.from_ndarray(padded[None, start : start + size], format=codec.sample_format, layout="mono")
        piece.sample_rate, piece.pts, piece.time_base = codec.rate_hz, start, Fraction(1, codec.rate_hz)
        packets += encoder.encode(piece)
    packets += encoder.encode(None)
    decoder = av.CodecContext.create(DECODERS.get(codec.encoder, codec.encoder), "r")
    if not isinstance(decoder, av.AudioCodecContext):
        raise TypeError(f"{codec.encoder} is not an audio codec")
    decoder.sample_rate, decoder.layout = codec.rate_hz, "mono"
    decoder.extradata = encoder.extradata
    pieces = [from_codec.push(decoded) for packet in [*packets, None] for decoded in decoder.decode(packet)]
    result = np.concatenate([*pieces, from_codec.flush()])[: len(samples)]
    return np.pad(result, (0, len(samples) - len(result)))


def lose_packets(samples: F32, rate_hz: int, share: float, rng: np.random.Generator) -> F32:
    """Replace a random share of the packets of 20 ms by silence, or by the packet before them at a lower level."""
    size = int(PACKET_S * rate_hz)
    result = samples.copy()
    conceals = rng.random() < 0.5
    for packet in np.flatnonzero(rng.random(len(samples) // size) < share):
        start = packet * size
        if conceals and packet:
            result[start : start + size] = CONCEALED_GAIN * result[start - size : start]
        else:
            result[start : start + size] = 0.0
    return result
