"""Restricts a run to holders of its TLS key."""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from runmem.clusters.certificate import make_certificate
from runmem.errors import SettingError
from runmem.settings import Settings

if TYPE_CHECKING:
    from distributed import Security

__all__ = ["TlsFiles", "TlsSecurity", "is_loopback", "security_from_files", "run_security", "require_insecure"]


@dataclass(frozen=True)
class TlsFiles:
    """Paths of the PEM files of a run."""

    ca: Path
    cert: Path
    key: Path

    def dask(self) -> Security:
        """Return a `distributed.Security` that reads the files."""
        return _dask_security(str(self.ca), str(self.cert), str(self.key))


@dataclass(frozen=True, repr=False)  # without the key in logs
class TlsSecurity:
    """Certificate and key (PEM texts) of all parts of a cluster.

    Dask checks both ends of every connection between client, scheduler, nannies and workers. It does not check host
    names, because the authority belongs to the run.

    Attributes
    ----------
    ca, cert, key : str
        Trusted authority, certificate signed by it, and key of the certificate.
    """

    ca: str
    cert: str
    key: str

    def dask(self) -> Security:
        """Return a `distributed.Security` with the texts."""
        return _dask_security(self.ca, self.cert, self.key)

    def write(self, folder: Path) -> TlsFiles:
        """Write the files (mode 0600) to a new folder (mode 0700), for jobs of batch systems.

        Raises
        ------
        OSError
            If the folder exists or cannot be made.
        """
        folder.mkdir(mode=0o700, parents=True)
        files = TlsFiles(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
        for path, text in ((files.ca, self.ca), (files.cert, self.cert), (files.key, self.key)):
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
                file.write(text)
        return files


def _dask_security(ca: str, cert: str, key: str) -> Security:
    import distributed

    roles = ("client", "scheduler", "worker")
    parts = {f"tls_{role}_{part}": value for role in roles for part, value in (("cert", cert), ("key", key))}
    return distributed.Security(require_encryption=True, tls_ca_file=ca, **parts)


def security_from_files(settings: Settings) -> TlsSecurity | None:
    """Read the files of --tls_ca, --tls_cert and --tls_key; None if none is given.

    Raises
    ------
    SettingError
        If a file is missing, cannot be read or does not match the others.
    """
    places = {"--tls_ca": settings.tls_ca, "--tls_cert": settings.tls_cert, "--tls_key": settings.tls_key}
    if not any(places.values()):
        return None
    if missing := [option for option, path in places.items() if path is None]:
        raise SettingError(f"{', '.join(missing)}: missing; TLS needs an authority, a certificate and its key.")
    texts = [_read(option, path) for option, path in places.items() if path is not None]
    try:
        ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cadata=texts[0])
    except (ssl.SSLError, ValueError) as error:
        raise SettingError(f"--tls_ca: {settings.tls_ca} has no certificate in PEM form ({error}).") from error
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(
            str(settings.tls_cert), str(settings.tls_key), password=""
        )
    except (ssl.SSLError, ValueError, OSError) as error:
        raise SettingError(
            f"--tls_cert {settings.tls_cert} and --tls_key {settings.tls_key} are not a certificate and its key in "
            f"PEM form without a password ({error})."
        ) from error
    return TlsSecurity(*texts)


def _read(option: str, path: Path) -> str:
    try:
        return path.read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not PEM text"
        raise SettingError(f"{option}: {path} cannot be read: {reason}.") from error


def run_security(settings: Settings, where: str) -> TlsSecurity | None:
    """Return the given or a new certificate for a run with its own workers; None with --insecure, after a warning.

    Parameters
    ----------
    where : str
        Unprotected ports for the warning, such as ``the ports of this run on node1 and node2``.

    Raises
    ------
    SettingError, ClusterError
        If given files cannot be used, or no certificate can be made.
    """
    if settings.insecure:
        require_insecure(settings, where)
        return None
    return security_from_files(settings) or TlsSecurity(*make_certificate())


def require_insecure(settings: Settings, where: str) -> None:
    """Raise an error for ports on a network without TLS, or with --insecure warn of the danger.

    Raises
    ------
    SettingError
        Without --insecure.
    """
    danger = "without TLS anyone who can connect can run code as you, and read and change your data"
    if not settings.insecure:
        raise SettingError(
            f"{where}: {danger}. Use tls:// with certificates (--tls_ca, --tls_cert, --tls_key), or give --insecure if "
            "nobody else can use that network."
        )
    logging.getLogger("runmem").warning("runmem: warning: --insecure: %s: %s.", where, danger)


def is_loopback(address: str) -> bool:
    """Return True if a Dask address (``tcp://host:port``) can be reached from this machine only."""
    parts = urlsplit(address if "://" in address else f"tcp://{address}")
    if parts.scheme == "inproc":
        return True
    host = parts.hostname or ""
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return bool(found) and all(ipaddress.ip_address(one.partition("%")[0]).is_loopback for one in found)
