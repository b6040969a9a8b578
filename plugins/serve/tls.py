"""The certificate and key that the server is told to use: whether they are there, and belong together."""

from __future__ import annotations

import ssl
from pathlib import Path

from squall.core.errors import ConfigError
from squall.plugins.serve.options import TlsOptions


def check(tls: TlsOptions) -> None:
    """Raises ConfigError, which names the option and the file, for what no server can be started with."""
    for option, file in (("certificate", tls.certificate), ("key", tls.key)):
        try:
            with Path(file).open("rb"):
                pass
        except OSError as error:
            advice = "give a PEM file that can be read; a path counts from the folder of squall.yaml"
            raise _wrong(option, file, f"{error.strerror}; {advice}") from error

    def password() -> str:  # asked for an encrypted key alone; without it, OpenSSL would ask whoever sits there
        advice = f"take its password away: openssl pkey -in {tls.key} -out plain.key"
        raise _wrong("key", tls.key, f"it is encrypted, and nobody is asked for its password; {advice}")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_verify_locations(cafile=tls.certificate)
    except ssl.SSLError as error:
        advice = "expected -----BEGIN CERTIFICATE----- and what follows it, the server's own first"
        raise _wrong("certificate", tls.certificate, f"there is no certificate in it; {advice}") from error
    try:
        context.load_cert_chain(tls.certificate, tls.key, password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            advice = "give the key that the certificate was made for"
            raise _wrong("key", tls.key, f"it is not the key of the certificate {tls.certificate}; {advice}") from error
        what = "there is no private key in it that can be used"
        advice = "expected -----BEGIN PRIVATE KEY----- and what follows it"
        raise _wrong("key", tls.key, f"{what} ({error.reason or error}); {advice}") from error


def _wrong(option: str, file: str, what: str) -> ConfigError:
    return ConfigError(f"serve: tls: {option}: {file}: {what}")
