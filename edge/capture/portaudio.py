"""PortAudio through PyAudio (extra `mic`), and the ALSA and JACK libraries that it loads.

If the sound server hangs, a call to PortAudio returns only when the server continues or ends. Callers therefore make such calls
in a thread, and wait for that thread no longer than a limit.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
from typing import Any

from moodring.errors import DeviceError
from moodring.process import trim_heap

_ALSA_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p)
_JACK_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_char_p)


def load_pyaudio() -> Any:
    """Return the module `pyaudio`. Raises DeviceError if it is not installed."""
    try:
        import pyaudio  # noqa: PLC0415  an extra, imported only when a microphone is used
    except ImportError as error:
        raise DeviceError(
            "microphones need PyAudio: install portaudio (Debian: apt-get install portaudio19-dev gcc), "
            "then pip install 'moodring[mic]'"
        ) from error
    _suppress_driver_messages()
    return pyaudio


@functools.cache
def _suppress_driver_messages() -> tuple[object, ...]:
    """Install handlers that discard the messages of ALSA and JACK, which print many lines while PortAudio searches for devices.

    Return the handlers. The cache keeps them alive, because the libraries call them until the process ends.
    """
    handlers = (_ALSA_HANDLER(lambda *_: None), _JACK_HANDLER(lambda _: None))
    with contextlib.suppress(OSError, AttributeError):  # not Linux, or no ALSA
        ctypes.CDLL("libasound.so.2").snd_lib_error_set_handler(handlers[0])
    with contextlib.suppress(OSError, AttributeError):
        jack = ctypes.CDLL("libjack.so.0")
        jack.jack_set_error_function(handlers[1])
        jack.jack_set_info_function(handlers[1])
    return handlers


def release_alsa_config() -> None:
    """Let ALSA unload the plugins that it loaded to examine the devices, such as encoders and graphics libraries: 10 MB.

    Plugins in use stay loaded; ALSA loads the others again when needed. See snd_config_update_free_global(3).
    """
    with contextlib.suppress(OSError, AttributeError):  # not Linux, or no ALSA
        ctypes.CDLL("libasound.so.2").snd_config_update_free_global()
    trim_heap()


def input_device_infos(audio: Any) -> list[dict[str, Any]]:
    """Return PortAudio's description of each device that has input channels. `audio` is a `pyaudio.PyAudio`."""
    devices = [audio.get_device_info_by_index(index) for index in range(audio.get_device_count())]
    return [device for device in devices if device["maxInputChannels"] > 0]
