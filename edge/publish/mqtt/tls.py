"""TLS of the connection to an MQTT broker."""

from __future__ import annotations

import ssl
from pathlib import Path

from moodring.errors import PublishError


def tls_context(ca_file: Path | None, certificate_file: Path | None, key_file: Path | None) -> ssl.SSLContext:
    """Return a TLS context that verifies the certificate and the name of the broker.

    `ca_file` is the certificate authority, None for those of the system. `certificate_file` and `key_file` are those of the
    client. Raises PublishError if a file cannot be read.
    """
    try:
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if certificate_file:
            context.load_cert_chain(certificate_file, key_file)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(str(file) for file in (ca_file, certificate_file, key_file) if file)
        raise PublishError(f"the TLS files for MQTT cannot be read ({files or 'system certificates'}): {error}") from error
    return context
