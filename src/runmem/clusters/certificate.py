"""Makes the certificate of one run."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from runmem.errors import ClusterError

if TYPE_CHECKING:
    from cryptography import x509

__all__ = ["make_certificate"]

_CLOCK_TOLERANCE = datetime.timedelta(days=1)  # for hosts with a slow clock
_VALIDITY = datetime.timedelta(days=366)


def make_certificate() -> tuple[str, str, str]:
    """Return the certificate of a new authority, a certificate signed by it, and its key (PEM texts).

    The key of the authority is discarded: holders of the files of a run can join it, but cannot make certificates for
    others. Takes a few milliseconds (elliptic curve P-256).

    Raises
    ------
    ClusterError
        If the package `cryptography` is missing.
    """
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
    except ImportError as error:
        raise ClusterError(
            f"the package cryptography, needed for the certificates of the run, cannot be imported ({error}). Install "
            "it (pip install cryptography), or give your own certificates: --tls_ca, --tls_cert, --tls_key."
        ) from error

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = datetime.datetime.now(datetime.UTC)
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def builder(subject: str, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name("runmem authority of one run"))
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _CLOCK_TOLERANCE)
            .not_valid_after(now + _VALIDITY)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
        )

    authority = (
        builder("runmem authority of one run", authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage("key_cert_sign"), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    member = (
        builder("runmem run", key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage("digital_signature"), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("runmem")]), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return authority.public_bytes(pem).decode(), member.public_bytes(pem).decode(), secret.decode()


def _usage(wanted: str) -> x509.KeyUsage:
    """Return the extension that restricts a key to one usage."""
    from cryptography import x509

    names = ["digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"]
    names += ["key_cert_sign", "crl_sign", "encipher_only", "decipher_only"]
    return x509.KeyUsage(**{name: name == wanted for name in names})
