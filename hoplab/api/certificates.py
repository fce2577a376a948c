"""Who the lab is and who may talk to it: a certificate of its own, a token, and the kubeconfig that has both.

Each lab makes a certificate authority and a server certificate for 127.0.0.1 and ::1, valid for
as long as any lab lives, and a random token.  The authority's key is forgotten at once: nobody
can make another certificate that this lab's kubeconfig would trust.
Source: RFC 5280 and the kubeconfig format (client-go's tools/clientcmd/api/v1).
"""

from __future__ import annotations

import base64
import ipaddress
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

VALID = timedelta(days=365)
_EARLIER = timedelta(minutes=5)
"""A clock may be set back a little."""


IN_CLUSTER = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
"""Names by which pods know the API server."""


@dataclass(frozen=True, slots=True)
class Identity:
    """PEM texts and the token; `key` and `token` are secrets."""

    authority: bytes
    certificate: bytes
    key: bytes
    token: str


def make(name: str) -> Identity:
    """A new identity for the lab `name`."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    now = datetime.now(UTC)

    def subject(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])

    def builder(who: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        made = x509.CertificateBuilder().subject_name(who).issuer_name(issuer).public_key(public)
        return (
            made.serial_number(x509.random_serial_number())
            .not_valid_before(now - _EARLIER)
            .not_valid_after(now + VALID)
        )

    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = subject(f"hoplab {name} authority")
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    authority = (
        builder(issuer, issuer, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    names: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address(each)) for each in ("127.0.0.1", "::1")]
    names += map(x509.DNSName, ("localhost", *IN_CLUSTER))
    certificate = (
        builder(subject(f"hoplab {name}"), issuer, key.public_key())
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Identity(authority.public_bytes(pem), certificate.public_bytes(pem), private, secrets.token_urlsafe(32))


def kubeconfig(identity: Identity, name: str, port: int, namespace: str = "default") -> str:
    """The kubeconfig's text for a lab that listens on 127.0.0.1:`port`; write it with mode 0600, it has the token."""
    import yaml

    context = f"hoplab-{name}"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": context,
        "clusters": [
            {
                "name": context,
                "cluster": {
                    "server": f"https://127.0.0.1:{port}",
                    "certificate-authority-data": base64.b64encode(identity.authority).decode(),
                },
            }
        ],
        "users": [{"name": context, "user": {"token": identity.token}}],
        "contexts": [{"name": context, "context": {"cluster": context, "user": context, "namespace": namespace}}],
    }
    text: str = yaml.safe_dump(document, sort_keys=False)
    return text
