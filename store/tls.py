"""TLS to a Milvus server: which certificates, checked before the first byte is sent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from outcrop.schema.errors import InputError
from outcrop.schema.settings import Settings


@dataclass(frozen=True)
class Tls:
    """Certificates (PEM files): `ca` signed the server's; `cert` and `key` are ours where the server wants one."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    server_name: str | None = None

    @classmethod
    def of(cls, settings: Settings) -> Tls:
        """What the settings say."""
        return cls(settings.tls_ca, settings.tls_cert, settings.tls_key, settings.tls_server_name)

    def arguments(self, uri: str) -> dict[str, str]:
        """pymilvus's arguments for it.

        Raises:
            InputError: a file is missing, only half of a pair is given, or the address is not https.
        """
        if self == Tls():
            return {}
        if not uri.startswith("https://"):
            raise InputError(
                f"OUTCROP_TLS_* is set, but the address is {uri.partition('://')[0]}://; write https:// to use TLS"
            )
        for name, path in (("CA", self.ca), ("CERT", self.cert), ("KEY", self.key)):
            if path is not None and not path.is_file():
                raise InputError(f"OUTCROP_TLS_{name}: there is no file {path}")
        if (self.cert is None) != (self.key is None):
            raise InputError("OUTCROP_TLS_CERT and OUTCROP_TLS_KEY go together; set both, or neither")
        arguments = {"server_name": self.server_name} if self.server_name else {}
        if self.cert is not None and self.key is not None:
            if self.ca is None:
                raise InputError("mutual TLS needs OUTCROP_TLS_CA beside OUTCROP_TLS_CERT and OUTCROP_TLS_KEY")
            return {
                **arguments,
                "client_pem_path": str(self.cert),
                "client_key_path": str(self.key),
                "ca_pem_path": str(self.ca),
            }
        return {**arguments, "server_pem_path": str(self.ca)} if self.ca is not None else arguments
