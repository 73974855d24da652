"""Texts without secrets: a password is hidden wherever it stands in an address, and what is harmless stays."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodring.errors import DeviceError, MoodringError
from moodring.redaction import without_credentials

SECRET = "hunter2"  # noqa: S105  no password of anything


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://admin:hunter2@10.0.0.7:554/live", "rtsp://10.0.0.7:554/live"),
        ("http://hunter2@10.0.0.7/video", "http://10.0.0.7/video"),
        ("rtsp://:hunter2@[fe80::1%eth0]:554/live", "rtsp://[fe80::1%eth0]:554/live"),
        ("http://admin:%68unter2@camera/", "http://camera/"),
        # a password with signs that end a user name, a host or an address
        ("rtsp://admin:hunter2@hunter2@10.0.0.7/live", "rtsp://10.0.0.7/live"),
        ("rtsp://admin:hunter2/hunter2@10.0.0.7/live", "rtsp://10.0.0.7/live"),
        ("rtsp://admin:hunter2#hunter2@10.0.0.7/live", "rtsp://10.0.0.7/live"),
        ("rtsp://admin:hunter2?hunter2@10.0.0.7/live", "rtsp://10.0.0.7/live"),
        ("rtsp://admin:hunter2 hunter2@10.0.0.7/live", "rtsp://10.0.0.7/live"),
        ("rtsp://admin:1#hunter2@camera/live", "rtsp://camera/live"),
        # queries and fragments
        ("http://10.0.0.7/videostream.cgi?user=admin&pwd=hunter2", "http://10.0.0.7/videostream.cgi?***"),
        ("http://10.0.0.7/cgi?user=me@x.com&pwd=hunter2", "http://10.0.0.7/cgi?***"),
        ("http://camera:8080/cgi?user=me@x.com&pwd=hunter2", "http://***"),
        ("http://10.0.0.7/video?hunter2", "http://10.0.0.7/video?***"),
        ("http://10.0.0.7/video#hunter2", "http://10.0.0.7/video#***"),
        ("srt://10.0.0.7:9?passphrase=hunter2&mode=caller", "srt://10.0.0.7:9?***"),
        ("http://10.0.0.7/cgi;user=admin;pwd=hunter2", "http://10.0.0.7/cgi;user=***"),
        # paths
        ("rtsp://10.0.0.7:554/user=admin_password=hunter2_channel=1_stream=0.sdp", "rtsp://10.0.0.7:554/user=***"),
        ("rtsp://10.0.0.7/user=admin&password=hunter2&channel=1", "rtsp://10.0.0.7/user=***"),
        ("rtsp://10.0.0.7/admin:hunter2/live", "rtsp://10.0.0.7/***/live"),
        ("rtsp://10.0.0.7/live/admin/hunter2", "rtsp://10.0.0.7/live/admin/***"),
        ("https://10.0.0.7/token/hunter2/live.m3u8", "https://10.0.0.7/token/***/live.m3u8"),
        ("rtsps://10.0.0.7:7441/hunter2AbCdEfGhIjKl?enableSrtp", "rtsps://10.0.0.7:7441/***?***"),
        ("https://10.0.0.7/eyJhbGciOiJIUzI1NiJ9.hunter2.sig/live.m3u8", "https://10.0.0.7/***/live.m3u8"),
        # percent-encoded signs
        ("rtsp://10.0.0.7:554/live%3Fpassword%3Dhunter2", "rtsp://10.0.0.7:554/***"),
        ("rtsp://10.0.0.7/live%253fpwd%253dhunter2/1", "rtsp://10.0.0.7/***"),
        ("rtsp://10.0.0.7/cam/admin%3Ahunter2%40/hunter2", "rtsp://10.0.0.7/cam/***"),
        ("rtsp://10.0.0.7/live%23token%3Dhunter2", "rtsp://10.0.0.7/***"),
        ("rtsp://10.0.0.7/admin%2Fhunter2", "rtsp://10.0.0.7/***"),
        ("rtsp://admin%3Ahunter2%4010.0.0.7/live", "rtsp://***"),
        ("10.0.0.7/live?password%3Dhunter2", "10.0.0.7/live?***"),
        ("rtsp://10.0.0.7/My%20Camera/live", "rtsp://10.0.0.7/My%20Camera/live"),
        # no address at all
        ("rtsp://admin:hunter2", "rtsp://***"),
        ("rtsp:/admin:hunter2@10.0.0.7/live", "10.0.0.7/live"),
        ("http:\\\\admin:hunter2@10.0.0.7/live", "10.0.0.7/live"),
        ("admin:hunter2@10.0.0.7/live", "10.0.0.7/live"),
        ("10.0.0.7/videostream.cgi?user=admin&pwd=hunter2", "10.0.0.7/videostream.cgi?***"),
        ("10.0.0.7/user=admin_password=hunter2", "10.0.0.7/user=***"),
    ],
)
def test_a_secret_is_hidden_in_an_address(address: str, shown: str):
    assert without_credentials(address) == shown
    assert without_credentials(shown) == shown
    for text in ("{}: no such file", "camera {} is lost (it stopped)", "got '{}'; name another", "{}, {}", "a\n{}\nb"):
        around = text.replace("{}", "%s")
        assert SECRET not in without_credentials(text.format(address, address))
        assert without_credentials(text.format(address, address)) == around % ((shown,) * around.count("%s"))


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://10.0.0.7:554/Streaming/Channels/101",
        "rtsp://10.0.0.7/h264Preview_01_main",
        "http://10.0.0.7/axis-cgi/mjpg/video.cgi",
        "check whether this port requires TLS (mqtts://)",
        "page on http://127.0.0.1:8737/",
        "page on http://[::1]:8737/",
        "camera rtsp://10.0.0.7: no frame for 1.5 s; reconnecting in 0.5 s",
        "mqtt.url must be mqtts://HOST[:PORT], or mqtt://HOST[:PORT] without TLS; got mqtt://10.0.0.7:0",
        "write KEY=VALUE, such as --set fusion.rate_hz=2",
        "/data/speaker=3/2026-01-02 12:30.mp4: no such file",
        "MQTT broker 10.0.0.7:1883: not authorised",
        "https://labstreaminglayer.readthedocs.io",
    ],
)
def test_a_text_without_a_secret_stays(text: str):
    assert without_credentials(text) == text


@given(text=st.text(alphabet="ab1:/@?#&=_;.'\" *%[]-\\\n"))
def test_any_text_has_a_result(text: str):
    without_credentials(f"{text} rtsp://{text}")


@pytest.mark.parametrize("repeated", ["a:", "rtsp://", "/user=", "a@", "a:b ", "a?b=", "@:"])
def test_a_long_text_takes_no_longer_than_reading_it(repeated: str):
    start_s = time.monotonic()
    without_credentials("rtsp://" + repeated * 20_000)
    assert time.monotonic() - start_s < 2


PASSWORDS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="@"), min_size=1)


@given(password=PASSWORDS)
def test_any_password_of_visible_characters_is_hidden(password: str):
    addresses = [f"rtsp://admin:{password}@10.0.0.7/live", f"http://10.0.0.7/live?pwd={password}&user=a"]
    shown = [without_credentials(f"camera {address} is lost") for address in addresses]
    assert shown == ["camera rtsp://10.0.0.7/live is lost", "camera http://10.0.0.7/live?*** is lost"]


def test_an_error_holds_no_secret():
    error = DeviceError("camera rtsp://admin:hunter2@10.0.0.7/live is not open")
    assert str(error) == "camera rtsp://10.0.0.7/live is not open"
    assert SECRET not in repr(error)
    assert str(MoodringError()) == ""
