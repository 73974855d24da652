"""Texts without the secrets of the addresses in them: log lines, errors, names of devices, titles of pages.

Cameras accept a password nearly anywhere: in the user information of a URL, in its query, in its fragment, or in the path of an
RTSP address (/user=admin_password=xyz_channel=1). All of these are hidden, also where an address is not well-formed.
"""

from __future__ import annotations

import re
from collections.abc import Callable

HIDDEN = "***"
PUNCTUATION = "'\"),;:.>"  # at the end of an address: belongs to the text around it
# An address up to the next space. A password can contain spaces, if an @ follows; digits after a colon are a port.
ADDRESS = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*:/{2,})(?P<rest>[^\s/:@]*:(?!\s|\d{1,5}(?:[\s/]|$))[^\n/@]*@\S*|\S+)"
)  # fmt: skip
PARTS = re.compile(r"(?P<host>[^/?#\\]*)(?P<path>[^?#]*)(?P<query>.*)", re.DOTALL)
PORT = r"(?::\d{0,5}|:PORT|\[:\w+\])?"  # also as a message names it: HOST:PORT, HOST[:PORT]
HOST = re.compile(rf"(?:[\w.%*-]*|\[[\w:.%]*\]){PORT}")
CERTAIN_HOST = re.compile(rf"(?:[\w-]+(?:\.[\w-]+)+|localhost|\[[\w:.%]+\]){PORT}")
# In a path: what follows one of these words, USER:PASSWORD, JSON web tokens, and long identifiers with letters and digits.
WORDS = r"user|usr|username|login|admin|root|pass|passwd|password|passphrase|pwd|psw|pw|token|key|apikey|api_key|auth|secret"
SECRET_SEGMENT = re.compile(
    rf"(?i:(?<=/)(?P<word>{WORDS})/[^/]+)"
    r"|(?<=/)[^/:]+:[^/]+"
    r"|(?<=/)eyJ[\w-]*\.[^/]+"
    r"|(?<=/)(?=[\w-]*\d)(?=[\w-]*[A-Za-z])(?:[A-Za-z0-9]{16,}|[\w-]{24,})(?=/|$)"
)
# The signs / : ; = ? @ # & percent-encoded, also several times: a path with one of them is hidden from there on.
ENCODED = r"%(?:25)*(?:2[36Ff]|3[AaBbDdFf]|40)"
ENCODED_REST = re.compile(rf"(?<=/)[^/]*?{ENCODED}.*", re.DOTALL)
# Without a scheme: admin:xyz@10.0.0.7, 10.0.0.7/video.cgi?user=admin&pwd=xyz, 10.0.0.7/user=admin_password=xyz
BARE_USER = re.compile(r"(?<![^\s'\"(=<])[^\s@/'\"(=:]+:(?!//)[^\s@]*@(?=[\w\[])")
BARE_QUERY = re.compile(r"(?<=[\w/])\?[^\s=?]+=\S*")
BARE_ENCODED = re.compile(rf"(?i)(?<![^\W_])(?:{WORDS}){ENCODED}\S+")
BARE_VALUE = re.compile(rf"(?i)[/_&;](?:{WORDS})=(?!{re.escape(HIDDEN)})\S+")


def without_credentials(text: str) -> str:
    """Return a text without the user names, passwords and tokens of the addresses in it."""
    text = ADDRESS.sub(lambda found: found["scheme"] + _hide(found["rest"], _redact_rest), text)
    text = BARE_USER.sub("", text)
    text = BARE_QUERY.sub(lambda found: _hide(found[0], lambda _: f"?{HIDDEN}"), text)
    text = BARE_ENCODED.sub(lambda found: _hide(found[0], lambda _: HIDDEN), text)
    return BARE_VALUE.sub(lambda found: _hide(found[0], lambda pair: f"{pair.partition('=')[0]}={HIDDEN}"), text)


def _hide(address: str, redact: Callable[[str], str]) -> str:
    """Redact an address, but not the punctuation after it."""
    core = address.rstrip(PUNCTUATION)
    return redact(core) + address[len(core) :]


def _redact_rest(rest: str) -> str:
    """Return the host of an address and the harmless parts of its path; `rest` is what follows the scheme."""
    rest = _without_user(rest)
    parts = PARTS.fullmatch(rest)
    if not rest:
        return rest
    if parts is None or not parts["host"] or not HOST.fullmatch(parts["host"]) or re.search(ENCODED, parts["host"]):
        return HIDDEN
    path, equals, _ = parts["path"].partition("=")
    path = ENCODED_REST.sub(HIDDEN, path)
    path = SECRET_SEGMENT.sub(lambda found: f"{found['word']}/{HIDDEN}" if found["word"] else HIDDEN, path)
    query = parts["query"]
    return parts["host"] + path + (f"={HIDDEN}" if equals else "") + (f"{query[0]}{HIDDEN}" if query[1:] else query)


def _without_user(rest: str) -> str:
    """Remove USER:PASSWORD@. The password can contain any of @ / ? #; an @ in a path or query follows a host."""
    authority = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
    if CERTAIN_HOST.fullmatch(authority.rpartition("@")[2]):
        return rest[authority.rfind("@") + 1 :]
    return rest.rpartition("@")[2]
