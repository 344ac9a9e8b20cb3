"""Where an API server is and who we are there: from a kubeconfig, or from the pod we run in.

One parser reads kubeconfigs, and a policy says what they may hold. Our own kubeconfig belongs to whoever started
Moorage, and may name files; those in Secrets belong to tenants and have another policy (`discovery.tenant`).
"""

import base64
import os
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from moorage.api.manifest_yaml import TextError, UnquotedError, bounded_documents
from moorage.api.schema import SERVER_NAME
from moorage.api.show import show
from moorage.cluster.urls import is_server_name, server_url
from moorage.errors import MoorageError

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where the kubelet mounts a pod's own credentials."""
EXAMPLE = "https://203.0.113.10:6443"
MAX_FILE_BYTES = 16 * 2**20
"""The most that is read of our own kubeconfig. It guards against files that never end, such as a device."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """One API server and one identity. PEM fields hold PEM text; None means not given.

    Raises MoorageError for a server that is not a URL.
    """

    server: str
    """The URL, in the form of `urls.server_url`."""
    token: str | None = None
    token_file: str | None = None
    """The client reads it again from time to time, because the kubelet rotates it. `token` takes precedence."""
    ca: str | None = None
    """None: the machine's own certificate authorities."""
    client_certificate: str | None = None
    client_key: str | None = None
    insecure_skip_tls_verify: bool = False
    tls_server_name: str | None = None
    namespace: str = "default"

    def __post_init__(self) -> None:
        # Here, because comparisons with "https://" rely on it even if no kubeconfig was read.
        msgspec.structs.force_setattr(self, "server", _server(self.server))

    def __repr__(self) -> str:
        """Leaves out the credentials, which must not get into a log."""
        return f"Config(server={self.server!r}, namespace={self.namespace!r})"


def _server(text: str) -> str:
    try:
        return server_url(text)
    except ValueError:
        raise MoorageError(f"{show(text)} is not a URL such as {EXAMPLE}") from None


class Policy(NamedTuple):
    """What a kubeconfig may say."""

    refused_of_cluster: Mapping[str, str]
    """Fields that must not be set, and what to do instead; `{field}` in the text stands for the field's name."""
    refused_of_user: Mapping[str, str]
    max_values: int
    """How many values a kubeconfig may have (`manifest_yaml.bounded_documents`)."""
    every_context: bool = False
    """Whether to refuse such fields also in clusters and users that are not used."""
    plain_http: bool = True
    anonymous: bool = True
    """Whether it may lack credentials."""
    max_key_bytes: int | None = None
    """Of a client's key."""


_PROGRAMS = "programs that fetch credentials are never run; use a token or client-certificate-data"
_PASSWORDS = "Kubernetes has no passwords since 1.19; use a token"
_IMPERSONATION = "impersonation is not supported; use that user's own token"
OURS = Policy(
    refused_of_cluster={"proxy-url": "proxies are not used; give a server that is reached directly"},
    refused_of_user={
        "exec": _PROGRAMS,
        "auth-provider": _PROGRAMS,
        "username": _PASSWORDS,
        "password": _PASSWORDS,
        "as": _IMPERSONATION,
        "as-uid": _IMPERSONATION,
        "as-groups": _IMPERSONATION,
        "as-user-extra": _IMPERSONATION,
    },
    max_values=200_000,
)

_Complain = Callable[[str, str], MoorageError]
"""Makes an error from a field, which may be empty, and what is wrong with it."""
_Mapping = dict[str, Any]


class Parsed(NamedTuple):
    """The part of a kubeconfig that is used."""

    config: Config
    field: str
    """The field that names the server: `clusters[a].cluster.server`."""


def load(path: str | os.PathLike[str], context: str | None = None) -> Config:
    """The server and identity in our own kubeconfig: of `context`, or of the file's current-context.

    File names in it are relative to the file. Raises MoorageError that names file and field for a file that cannot
    be read or understood, a context, cluster or user that is missing, and for credentials that need another program
    (`exec`, `auth-provider`) or a feature that Moorage lacks (proxy, impersonation, passwords).
    """
    file = Path(path)

    def complain(field: str, what: str) -> MoorageError:
        return MoorageError(f"kubeconfig {file}: {field}: {what}" if field else f"kubeconfig {file}: {what}")

    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise complain("", f"more than {MAX_FILE_BYTES} bytes; name a kubeconfig")
        text = content.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise complain("", f"{_why(error)}; name a kubeconfig that can be read") from None
    return parse(text, OURS, complain, context=context, directory=file.parent).config


def parse(
    text: str, policy: Policy, complain: _Complain, *, context: str | None = None, directory: Path | None = None
) -> Parsed:
    """The server and identity of `context`; None: the current context.

    File names in it are relative to `directory`; None: `policy` allows no files. `complain` makes the errors.
    """
    file = _document(text, policy.max_values, complain)
    clusters, users, contexts = (_named(file, kind, complain) for kind in ("cluster", "user", "context"))
    if policy.every_context:
        _refuse(clusters, users, policy, complain)
    name = context or _text(file, "current-context", "", complain)
    if not name:
        raise complain("current-context", "is not set; name a context")
    if name not in contexts:
        known = ", ".join(map(show, sorted(contexts)[:5])) or "none"
        field = "contexts" if context else "current-context"
        raise complain(field, f"no context is named {show(name)}; there are: {known}")
    at = f"contexts[{show(name)}].context"
    cluster_name, user_name = (_text(contexts[name], field, at, complain) for field in ("cluster", "user"))
    if cluster_name not in clusters:
        raise complain(f"{at}.cluster", f"no cluster is named {show(cluster_name)}")
    if user_name not in users and (user_name or not policy.anonymous):
        raise complain(f"{at}.user", f"no user is named {show(user_name)}")

    _refuse({cluster_name: clusters[cluster_name]}, {user_name: users.get(user_name, {})}, policy, complain)
    at_cluster, at_user = f"clusters[{show(cluster_name)}].cluster", f"users[{show(user_name)}].user"
    cluster = _Fields(clusters[cluster_name], at_cluster, complain, directory)
    user = _Fields(users.get(user_name, {}), at_user, complain, directory)
    config = Config(
        server=_server_of(cluster, policy),
        token=_token(user),
        token_file=None if user.text("token") or not user.text("tokenFile") else str(user.path("tokenFile")),
        ca=cluster.pem("certificate-authority"),
        client_certificate=user.pem("client-certificate"),
        client_key=user.pem("client-key"),
        insecure_skip_tls_verify=cluster.flag("insecure-skip-tls-verify"),
        tls_server_name=_server_name(cluster),
        namespace=_text(contexts[name], "namespace", at, complain) or "default",
    )
    _check_credentials(config, policy, user)
    return Parsed(config, f"{at_cluster}.server")


def in_cluster(environ: Mapping[str, str] = os.environ, directory: Path = SERVICE_ACCOUNT) -> Config:
    """The API server and service account of the pod that this process runs in.

    Raises MoorageError if this is not a pod, or one without a service account token.
    """
    host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        raise MoorageError(
            "in-cluster configuration: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set; "
            "outside a pod, give a kubeconfig"
        )
    try:
        ca = (directory / "ca.crt").read_bytes().decode(errors="replace")
        (directory / "token").read_text()
        namespace_file = directory / "namespace"
        namespace = namespace_file.read_text().strip() if namespace_file.exists() else "default"
    except (OSError, UnicodeDecodeError) as error:
        raise MoorageError(
            f"in-cluster configuration: {directory}: {_why(error)}; "
            "the pod needs a service account with automountServiceAccountToken"
        ) from None
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return Config(server=server, token_file=str(directory / "token"), ca=ca, namespace=namespace)


def _why(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else "is not text"


def _document(text: str, max_values: int, complain: _Complain) -> _Mapping:
    values = []
    for found in islice(bounded_documents(text, max_values), 2):
        if isinstance(found, UnquotedError):
            raise complain("", str(found))
        if isinstance(found, TextError):
            # The parser's words may quote the text: half a certificate, or secrets that readers of a status must not
            # see.
            what = "not valid YAML, or a key that is given twice; fetch the kubeconfig again"
            raise complain("", f"line {found.line}: {what}")
        values.append(found.value)
    if len(values) != 1:
        raise complain("", f"holds {'several' if values else 'no'} YAML documents; put one kubeconfig there")
    if not isinstance(values[0], dict):
        raise complain("", "is not a mapping; put a kubeconfig there")
    return values[0]


def _named(file: _Mapping, kind: str, complain: _Complain) -> dict[str, _Mapping]:
    """The clusters, users or contexts of a kubeconfig, by name."""
    entries = file.get(f"{kind}s") or []
    if not isinstance(entries, list):
        raise complain(f"{kind}s", "is not a list")
    found: dict[str, _Mapping] = {}
    for index, entry in enumerate(entries):
        at = f"{kind}s[{index}]"
        if not isinstance(entry, dict):
            raise complain(at, "is not a mapping")
        name = _text(entry, "name", at, complain)
        value = entry.get(kind) or {}
        if not isinstance(value, dict):
            raise complain(f"{at}.{kind}", "is not a mapping")
        if name in found:
            raise complain(at, f"{kind} {show(name)} is given twice; keep one")
        found[name] = value
    return found


def _refuse(clusters: dict[str, _Mapping], users: dict[str, _Mapping], policy: Policy, complain: _Complain) -> None:
    for kind, found, refused in (
        ("cluster", clusters, policy.refused_of_cluster),
        ("user", users, policy.refused_of_user),
    ):
        for each, of in found.items():
            for field, why in refused.items():
                # Tools also write fields that are not set; Kubernetes ignores the case of names.
                if any(value for name, value in of.items() if name.lower() == field.lower()):
                    raise complain(f"{kind}s[{show(each)}].{kind}.{field}", why.format(field=field))


def _text(of: _Mapping, field: str, at: str, complain: _Complain) -> str:
    value = of.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise complain(f"{at}.{field}".lstrip("."), "is not text; put it in quotes")
    return value


class _Fields(NamedTuple):
    """The fields of a cluster or user."""

    of: _Mapping
    at: str
    complain: _Complain
    directory: Path | None

    def error(self, field: str, what: str) -> MoorageError:
        return self.complain(f"{self.at}.{field}", what)

    def text(self, field: str) -> str:
        return _text(self.of, field, self.at, self.complain)

    def flag(self, field: str) -> bool:
        value = self.of.get(field) or False
        if not isinstance(value, bool):
            raise self.error(field, "is neither true nor false; write one of them, without quotes")
        return value

    def path(self, field: str) -> Path:
        assert self.directory is not None, "the policy refuses fields that name files"
        return self.directory / self.text(field)

    def pem(self, name: str) -> str | None:
        """PEM text, inline in `name`-data, which takes precedence as in kubectl, or in a file."""
        if data := self.text(f"{name}-data"):
            name = f"{name}-data"
            try:
                content = base64.b64decode("".join(data.split()), validate=True)
            except ValueError:
                raise self.error(name, "is not base64 of PEM text") from None
        elif self.text(name):
            try:
                content = self.path(name).read_bytes()
            except OSError as error:
                raise self.error(name, f"{self.path(name)}: {_why(error)}") from None
        else:
            return None
        if b"-----BEGIN " not in content:
            raise self.error(name, "holds no PEM text (-----BEGIN ...)")
        return content.decode(errors="replace")  # comments may be in any encoding


def _server_of(cluster: _Fields, policy: Policy) -> str:
    text = cluster.text("server")
    if "@" in text:  # Even if it is not a URL: a message must not quote a password.
        raise cluster.error("server", "has a user name or password in it; use a token")
    try:
        server = _server(text)
    except MoorageError as error:
        raise cluster.error("server", str(error)) from None
    if not policy.plain_http and not server.startswith("https://"):
        raise cluster.error("server", f"{show(text)} is not a URL such as {EXAMPLE}")
    return server


def _server_name(cluster: _Fields) -> str | None:
    name = cluster.text("tls-server-name")
    if name and not is_server_name(name):
        raise cluster.error("tls-server-name", f"{show(name)} {SERVER_NAME.message}")
    return name or None


def _token(user: _Fields) -> str | None:
    token = user.text("token").strip()
    if not is_token(token):
        raise user.error("token", "holds characters that no token has; copy it again")
    return token or None


def is_token(text: str) -> bool:
    """Whether a header can carry this as a bearer token."""
    return text.isascii() and text.isprintable()


def _check_credentials(config: Config, policy: Policy, user: _Fields) -> None:
    key = config.client_key
    if (config.client_certificate is None) != (key is None):
        raise user.complain(user.at, "needs both client-certificate-data and client-key-data, or neither")
    if key and policy.max_key_bytes is not None and len(key) > policy.max_key_bytes:
        what = f"{len(key)} bytes, more than {policy.max_key_bytes}; use an ECDSA key, or RSA of at most 4096 bits"
        raise user.error("client-key-data", what)
    if not policy.anonymous and config.token is None and key is None:
        raise user.complain(user.at, "has neither a token nor client-certificate-data; put one in")
