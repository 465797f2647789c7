"""The cluster's own authority: hosts trust each other, and nobody else."""

import socket
import ssl
import threading

import certificates
import pytest
from cryptography import x509

HOST, OTHER = "127.0.0.1", "10.0.0.2"


def contexts(server, client, authority):
    """TLS as both sides of a connection between nodes use it: each shows a certificate."""
    ends = []
    for purpose, folder in ((ssl.Purpose.CLIENT_AUTH, server), (ssl.Purpose.SERVER_AUTH, client)):
        context = ssl.create_default_context(purpose, cafile=str(authority / "ca.crt"))
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(folder / "node.crt", folder / "node.key")
        ends.append(context)
    return ends


def talk(server_context, client_context) -> bytes:
    with socket.create_server((HOST, 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            try:
                with server_context.wrap_socket(connection, server_side=True) as secure:
                    secure.sendall(b"hello")
            except ssl.SSLError:
                connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            with (
                socket.create_connection(listener.getsockname(), timeout=10) as plain,
                client_context.wrap_socket(plain, server_hostname=HOST) as secure,
            ):
                return secure.recv(16)
        finally:
            thread.join()


@pytest.fixture
def folder(tmp_path):
    certificates.issue(tmp_path / "ours", [HOST, OTHER])
    return tmp_path / "ours"


def test_hosts_of_one_authority_trust_each_other(folder):
    assert talk(*contexts(folder / HOST, folder / OTHER, folder)) == b"hello"


def test_a_host_added_later_is_trusted_too(folder):
    before = (folder / "ca.crt").read_bytes()
    certificates.issue(folder, ["10.0.0.3"])
    assert (folder / "ca.crt").read_bytes() == before
    assert talk(*contexts(folder / HOST, folder / "10.0.0.3", folder)) == b"hello"


def test_a_stranger_is_not(folder, tmp_path):
    certificates.issue(tmp_path / "theirs", [OTHER])
    server, _ = contexts(folder / HOST, folder / OTHER, folder)
    _, client = contexts(folder / HOST, tmp_path / "theirs" / OTHER, folder)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        talk(server, client)


def test_a_certificate_holds_for_its_own_host_and_loopback(folder):
    certificate = x509.load_pem_x509_certificate((folder / OTHER / "node.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {str(name) for name in names.get_values_for_type(x509.IPAddress)} == {OTHER, HOST}


def test_keys_are_private(folder):
    for key in (folder / "ca.key", folder / HOST / "node.key"):
        assert key.stat().st_mode & 0o077 == 0


def test_what_is_no_address_is_named(tmp_path, capsys):
    assert certificates.main(["--out", str(tmp_path), "node-1"]) == 2
    assert "node-1: not an IP address" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_spoilt_authority_is_named(folder, capsys):
    (folder / "ca.key").write_text("nonsense")
    assert certificates.main(["--out", str(folder), HOST]) == 2
    assert str(folder) in capsys.readouterr().err
