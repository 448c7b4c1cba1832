"""Who may take part in a run: holders of its TLS key, and nobody else."""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from runmem.clusters.certificate import make_certificate
from runmem.errors import SettingError
from runmem.settings import Settings

__all__ = ["TlsFiles", "TlsSecurity", "is_loopback", "security_from_files", "run_security", "require_insecure"]


@dataclass(frozen=True)
class TlsFiles:
    """Where the PEM files of a run lie."""

    ca: Path
    cert: Path
    key: Path

    def dask_options(self) -> list[str]:
        """Return them as options of `dask worker` and `dask scheduler`."""
        return ["--tls-ca-file", str(self.ca), "--tls-cert", str(self.cert), "--tls-key", str(self.key)]


@dataclass(frozen=True, repr=False)  # the key stays out of logs
class TlsSecurity:
    """Certificate and key (PEM texts) that every part of a cluster shows and asks for.

    Dask checks both ends of every connection, whoever connects: client, scheduler, nanny or worker. It checks no host
    names: the authority is the run's own.

    Attributes
    ----------
    ca, cert, key : str
        The authority that is trusted; the certificate that it signed; its key.
    """

    ca: str
    cert: str
    key: str

    def dask(self) -> Any:
        """Return it as a `distributed.Security`."""
        import distributed

        roles = {f"tls_{role}_{part}": getattr(self, part) for role in ("client", "scheduler", "worker")
                 for part in ("cert", "key")}  # fmt: skip
        return distributed.Security(require_encryption=True, tls_ca_file=self.ca, **roles)

    def write(self, folder: Path) -> TlsFiles:
        """Write the three files (mode 0600) into `folder`, which is made with mode 0700; for batch systems.

        Raises
        ------
        OSError
            If the folder is there already, or cannot be made.
        """
        folder.mkdir(mode=0o700, parents=True)
        files = TlsFiles(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
        for path, text in ((files.ca, self.ca), (files.cert, self.cert), (files.key, self.key)):
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
                file.write(text)
        return files


def security_from_files(settings: Settings) -> TlsSecurity | None:
    """Return what --tls_ca, --tls_cert and --tls_key name; None if none of them was given.

    Raises
    ------
    SettingError
        If one is missing, cannot be read or does not fit the others; says which.
    """
    places = {"--tls_ca": settings.tls_ca, "--tls_cert": settings.tls_cert, "--tls_key": settings.tls_key}
    if not any(places.values()):
        return None
    if missing := [option for option, path in places.items() if path is None]:
        raise SettingError(
            f"{', '.join(missing)} must be given too: TLS needs an authority, a certificate and its key."
        )
    texts = [_read(option, path) for option, path in places.items() if path is not None]
    try:
        ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cadata=texts[0])
    except (ssl.SSLError, ValueError) as error:
        raise SettingError(f"--tls_ca: {settings.tls_ca} holds no certificate in PEM form ({error}).") from error
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(
            str(settings.tls_cert), str(settings.tls_key), password=""
        )
    except (ssl.SSLError, ValueError, OSError) as error:
        raise SettingError(
            f"--tls_cert {settings.tls_cert} and --tls_key {settings.tls_key} are no certificate and its key in PEM "
            f"form, without a password ({error})."
        ) from error
    return TlsSecurity(*texts)


def _read(option: str, path: Path) -> str:
    try:
        return path.read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no PEM text"
        raise SettingError(f"{option}: {path} cannot be read: {reason}.") from error


def run_security(settings: Settings, where: str) -> TlsSecurity | None:
    """Return what a run that starts its own workers on other hosts goes by; None with --insecure, after a warning.

    Parameters
    ----------
    where : str
        What listens without protection then, for the warning, such as ``the ports of this run on node1 and node2``.

    Raises
    ------
    SettingError, ClusterError
        If files that were given cannot be used, or no certificate can be made.
    """
    if settings.insecure:
        require_insecure(settings, where)
        return None
    return security_from_files(settings) or TlsSecurity(*make_certificate())


def require_insecure(settings: Settings, where: str) -> None:
    """Refuse what listens on a network without TLS; with --insecure say on the terminal what anybody could do.

    Raises
    ------
    SettingError
        Without --insecure.
    """
    danger = "without TLS anybody who reaches them can run code as you, and read and change your data"
    if not settings.insecure:
        raise SettingError(
            f"{where}: {danger}. Use tls:// with certificates (--tls_ca, --tls_cert, --tls_key), or give --insecure if "
            "nobody else can reach that network."
        )
    logging.getLogger("runmem").warning("runmem: warning: --insecure: %s: %s.", where, danger)


def is_loopback(address: str) -> bool:
    """Tell whether an address of Dask's (``tcp://host:port``) can be reached from this machine alone."""
    parts = urlsplit(address if "://" in address else f"tcp://{address}")
    if parts.scheme == "inproc":
        return True
    host = parts.hostname or ""
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return bool(found) and all(ipaddress.ip_address(one.partition("%")[0]).is_loopback for one in found)
