"""Certificates for the server (trustme) and the kubeconfig of its administrator."""

import base64
import os
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import trustme

from moorage.api.yaml_text import dump

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Certificates(NamedTuple):
    """PEM text. The CA's key is not kept, so nothing else can be signed with it."""

    ca: str
    certificate: str
    key: str


def issue(names: Sequence[str] = ()) -> Certificates:
    """A new CA and a server certificate for loopback and the given addresses and names."""
    authority = trustme.CA(organization_name="Moorage lab")
    leaf = authority.issue_cert(*dict.fromkeys((*LOOPBACK, *names)), common_name="kube-apiserver")
    chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
    return Certificates(authority.cert_pem.bytes().decode(), chain.decode(), leaf.private_key_pem.bytes().decode())


def server_context(certificate: str | os.PathLike[str], key: str | os.PathLike[str]) -> ssl.SSLContext:
    """From PEM files; raises OSError or ssl.SSLError."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


def kubeconfig(server: str, token: str | None, ca: str | None, name: str = "lab") -> str:
    """YAML text of a kubeconfig with one context, whose cluster and user it names too."""
    cluster = {"server": server}
    if ca is not None:
        cluster["certificate-authority-data"] = base64.b64encode(ca.encode()).decode()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": {"token": token} if token else {}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    return dump(config)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, in one step: a reader sees all of it or none."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)
