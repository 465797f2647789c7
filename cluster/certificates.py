"""An authority of the cluster's own and a certificate for each host, for `node.py --tls-dir`.

    python cluster/certificates.py --out certificates 10.0.0.1 10.0.0.2 10.0.0.3

writes `certificates/10.0.0.1/{ca.crt,node.crt,node.key}` and so on: copy each folder to its host.
The authority's key stays in `certificates/ca.key`, away from the hosts; run it again for more of
them. Who holds a key that it signed is one of the cluster.
"""

import argparse
import ipaddress
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from processes import LOOPBACK, ClusterError, write_private

AUTHORITY = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "dtpf cluster")])
DAYS = 825
# Hosts' clocks differ a little; a certificate must not lie in the future of any.
_BACKDATED = timedelta(hours=1)

Key = ec.EllipticCurvePrivateKey


def issue(folder: Path, addresses: Sequence[str]) -> None:
    """Write a certificate for each address, signed by the authority of `folder`.

    Raises:
        ClusterError: something that is no IP address, or an authority's file that cannot be read.
    """
    hosts = [_parsed(address) for address in addresses]
    key, authority = _authority(folder)
    for host in hosts:
        home = folder / str(host)
        own = ec.generate_private_key(ec.SECP256R1())
        write_private(home / "node.key", _private(own))
        names = [x509.IPAddress(host), x509.IPAddress(ipaddress.ip_address(LOOPBACK))]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, str(host))])
        certificate = (
            _builder(subject, own)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        _write(home / "node.crt", certificate)
        _write(home / "ca.crt", authority)


def _authority(folder: Path) -> tuple[Key, x509.Certificate]:
    """Return the folder's authority, made on first use."""
    key_file, file = folder / "ca.key", folder / "ca.crt"
    if key_file.exists():
        try:
            key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
            certificate = x509.load_pem_x509_certificate(file.read_bytes())
        except (OSError, ValueError) as error:
            raise ClusterError(f"{folder}: cannot read the authority: {error}") from None
        assert isinstance(key, Key)
        return key, certificate
    key = ec.generate_private_key(ec.SECP256R1())
    write_private(key_file, _private(key))
    certificate = (
        _builder(AUTHORITY, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    _write(file, certificate)
    return key, certificate


def _builder(subject: x509.Name, key: Key) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(AUTHORITY)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + timedelta(days=DAYS))
    )


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(address)
    except ValueError:
        raise ClusterError(f"{address}: not an IP address") from None


def _private(key: Key) -> str:
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(*pem, serialization.NoEncryption()).decode()


def _write(path: Path, certificate: x509.Certificate) -> None:
    """Write whole or not at all."""
    part = path.with_suffix(".part")
    part.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    os.replace(part, path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("addresses", nargs="+", metavar="ADDRESS", help="of a host")
    parser.add_argument("--out", type=Path, default=Path("certificates"))
    options = parser.parse_args(arguments)
    try:
        issue(options.out, options.addresses)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{options.out}/: {', '.join(options.addresses)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
