"""Certificates, tokens and kubeconfigs of a cluster."""

import base64
import secrets
from collections.abc import Sequence
from pathlib import Path

import trustme
import yaml

ADMIN = "admin"
"""Name of the user who may do everything."""


class Credentials:
    """A CA, the API server's certificate, and a token for every user."""

    def __init__(self, directory: Path, addresses: Sequence[str]) -> None:
        """`addresses` are those at which clients reach the API server. Writes PEM files into the directory."""
        authority = trustme.CA(organization_name="Moorage e2e")
        names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
        leaf = authority.issue_cert(*addresses, *names, common_name="kube-apiserver")
        self.ca = authority.cert_pem.bytes().decode()
        self.ca_file = directory / "ca.crt"
        self.certificate = directory / "apiserver.crt"
        self.key = directory / "apiserver.key"
        self.accounts_key = directory / "service-accounts.key"
        self.tokens_file = directory / "tokens.csv"
        self.tokens = {ADMIN: secrets.token_hex(16)}
        self._groups = {ADMIN: "system:masters"}
        self.ca_file.write_text(self.ca)
        leaf.private_key_and_cert_chain_pem.write_to_path(str(self.certificate))
        leaf.private_key_pem.write_to_path(str(self.key))
        authority.issue_cert("accounts").private_key_pem.write_to_path(str(self.accounts_key))
        self._write()

    def user(self, name: str, *groups: str) -> str:
        """The token of a user. The API server reads tokens at its start: add users before it."""
        self.tokens[name] = secrets.token_hex(16)
        self._groups[name] = ",".join(groups)
        self._write()
        return self.tokens[name]

    def _write(self) -> None:
        rows = [f'{token},{user},{user},"{self._groups[user]}"\n' for user, token in self.tokens.items()]
        self.tokens_file.write_text("".join(rows))

    def kubeconfig(self, path: Path, server: str, user: str = ADMIN) -> Path:
        """Write a kubeconfig for a user: inline CA and token, one context."""
        path.write_text(kubeconfig(server, self.tokens[user], self.ca))
        path.chmod(0o600)
        return path


def kubeconfig(server: str, token: str, ca: str) -> str:
    """YAML text of a kubeconfig with one context."""
    cluster = {"server": server, "certificate-authority-data": base64.b64encode(ca.encode()).decode()}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "e2e", "cluster": cluster}],
        "users": [{"name": "e2e", "user": {"token": token}}],
        "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": "e2e"}}],
        "current-context": "e2e",
    }
    return yaml.safe_dump(config, sort_keys=False)
