"""Where the API server is and who we are there: read from our own kubeconfig, or from the pod we run in.

Only for a kubeconfig that belongs to whoever started Moorage: it may name files. Kubeconfigs from Secrets belong to
tenants and must never be read by `load`.
"""

import base64
import binascii
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import yaml

from moorage.errors import MoorageError

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where the kubelet mounts a pod's own credentials."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """One API server and one identity. PEM fields hold PEM text; None means not given."""

    server: str
    """URL, http or https, perhaps with a path prefix; no trailing slash."""
    token: str | None = None
    token_file: str | None = None
    """Read again from time to time by the client, because the kubelet rotates it; `token` wins."""
    ca: str | None = None
    """None: the machine's own certificate authorities."""
    client_certificate: str | None = None
    client_key: str | None = None
    insecure_skip_tls_verify: bool = False
    tls_server_name: str | None = None
    namespace: str = "default"

    def __repr__(self) -> str:
        """Without the credentials, which must not reach a log."""
        return f"Config(server={self.server!r}, namespace={self.namespace!r})"


class _Kebab(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    pass


class _Cluster(_Kebab, frozen=True, kw_only=True):
    server: str = ""
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""
    proxy_url: str = ""


class _User(_Kebab, frozen=True, kw_only=True):
    token: str = ""
    token_file: str = msgspec.field(default="", name="tokenFile")
    client_certificate: str = ""
    client_certificate_data: str = ""
    client_key: str = ""
    client_key_data: str = ""
    username: str = ""
    exec: object = None
    auth_provider: object = None
    as_: str = msgspec.field(default="", name="as")


class _Context(_Kebab, frozen=True, kw_only=True):
    cluster: str = ""
    user: str = ""
    namespace: str = ""


class _NamedCluster(_Kebab, frozen=True, kw_only=True):
    name: str
    cluster: _Cluster


class _NamedUser(_Kebab, frozen=True, kw_only=True):
    name: str
    user: _User | None = None


class _NamedContext(_Kebab, frozen=True, kw_only=True):
    name: str
    context: _Context


class _File(_Kebab, frozen=True, kw_only=True):
    clusters: list[_NamedCluster] | None = None
    users: list[_NamedUser] | None = None
    contexts: list[_NamedContext] | None = None
    current_context: str = ""


def load(path: str | os.PathLike[str], context: str | None = None) -> Config:
    """The server and identity of `context`, or of the file's current-context.

    File names in it are relative to the file. Raises MoorageError that names file and field for a file that cannot
    be read or understood, a context, cluster or user that is missing, and for credentials that need another program
    (`exec`, `auth-provider`) or a feature that Moorage lacks (proxy, impersonation, passwords).
    """
    file = Path(path)
    complain = _complainer(file)
    raw = _read(file, complain)

    name = context or raw.current_context
    if not name:
        raise complain("current-context", "is not set; name a context")
    chosen = next((entry.context for entry in raw.contexts or [] if entry.name == name), None)
    if chosen is None:
        known = ", ".join(entry.name for entry in raw.contexts or []) or "none"
        raise complain("contexts", f"no context is named {name!r}; there are: {known}")
    cluster = next((entry.cluster for entry in raw.clusters or [] if entry.name == chosen.cluster), None)
    if cluster is None:
        raise complain(f"contexts[{name}].context.cluster", f"no cluster is named {chosen.cluster!r}")
    user: _User | None = _User()
    if chosen.user:
        user = next((entry.user or _User() for entry in raw.users or [] if entry.name == chosen.user), None)
        if user is None:
            raise complain(f"contexts[{name}].context.user", f"no user is named {chosen.user!r}")
    assert user is not None

    where_cluster, where_user = f"clusters[{chosen.cluster}].cluster", f"users[{chosen.user}].user"
    _refuse_unsupported(cluster, user, where_cluster, where_user, complain)
    pem = _PemReader(file.parent, complain)
    token_file = str(file.parent / user.token_file) if user.token_file and not user.token else None
    config = Config(
        server=_server(cluster.server, f"{where_cluster}.server", complain),
        token=user.token.strip() or None,
        token_file=token_file,
        ca=pem(
            cluster.certificate_authority_data, cluster.certificate_authority, where_cluster, "certificate-authority"
        ),
        client_certificate=pem(
            user.client_certificate_data, user.client_certificate, where_user, "client-certificate"
        ),
        client_key=pem(user.client_key_data, user.client_key, where_user, "client-key"),
        insecure_skip_tls_verify=cluster.insecure_skip_tls_verify,
        tls_server_name=cluster.tls_server_name or None,
        namespace=chosen.namespace or "default",
    )
    if (config.client_certificate is None) != (config.client_key is None):
        raise complain(where_user, "client-certificate and client-key are needed both, or neither")
    return config


def in_cluster(environ: Mapping[str, str] = os.environ, directory: Path = SERVICE_ACCOUNT) -> Config:
    """The API server and service account of the pod that this process runs in.

    Raises MoorageError where this is no pod, or one without a service account token.
    """
    host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        raise MoorageError(
            "in-cluster configuration: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set; "
            "outside a pod, give a kubeconfig"
        )
    try:
        ca = (directory / "ca.crt").read_text()
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


_Complain = Callable[[str, str], MoorageError]


def _complainer(file: Path) -> _Complain:
    def complain(field: str, what: str) -> MoorageError:
        return MoorageError(f"kubeconfig {file}: {field}: {what}" if field else f"kubeconfig {file}: {what}")

    return complain


def _why(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else "is not text"


def _read(file: Path, complain: _Complain) -> _File:
    try:
        data = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise complain("", f"{_why(error)}; name a kubeconfig that can be read") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}" if mark else ""
        # A tag that nobody knows is quoted in full, and may be half a certificate.
        problem = (getattr(error, "problem", None) or "cannot be read")[:80]
        raise complain(line, f"malformed YAML: {problem}; fetch the kubeconfig anew") from None
    if not isinstance(data, dict):
        raise complain("", "is not a kubeconfig: the file must hold one mapping")
    try:
        return msgspec.convert(data, _File)
    except msgspec.ValidationError as error:
        what, _, at = str(error).partition(" - at `$.")
        raise complain(at.rstrip("`"), what) from None


def _refuse_unsupported(cluster: _Cluster, user: _User, at_cluster: str, at_user: str, complain: _Complain) -> None:
    for field, value in (("exec", user.exec), ("auth-provider", user.auth_provider)):
        if value is not None:
            raise complain(
                f"{at_user}.{field}",
                "programs that fetch credentials are not run; use a token or a client certificate",
            )
    if user.username:
        raise complain(f"{at_user}.username", "Kubernetes has no passwords since 1.19; use a token")
    if user.as_:
        raise complain(f"{at_user}.as", "impersonation is not supported; use that user's own token")
    if cluster.proxy_url:
        raise complain(f"{at_cluster}.proxy-url", "proxies are not supported; give a server that is reached directly")


def _server(server: str, field: str, complain: _Complain) -> str:
    if not server:
        raise complain(field, "is missing")
    try:
        parts = urlsplit(server)
        well_formed = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        well_formed = False
    if not well_formed:
        raise complain(field, f"{server!r} is not a URL such as https://192.0.2.1:6443")
    return server.rstrip("/")


class _PemReader:
    """Reads one PEM field from its inline `*-data` form, which wins as in kubectl, or else from its file."""

    def __init__(self, directory: Path, complain: _Complain) -> None:
        self._directory = directory
        self._complain = complain

    def __call__(self, data: str, file: str, where: str, name: str) -> str | None:
        if data:
            field = f"{where}.{name}-data"
            try:
                text = base64.b64decode("".join(data.split()), validate=True).decode()
            except (binascii.Error, ValueError):
                raise self._complain(field, "is not base64 of PEM text") from None
        elif file:
            field = f"{where}.{name}"
            try:
                text = (self._directory / file).read_text()
            except (OSError, UnicodeDecodeError) as error:
                raise self._complain(field, f"{self._directory / file}: {_why(error)}") from None
        else:
            return None
        if "-----BEGIN " not in text:
            raise self._complain(field, "holds no PEM text (-----BEGIN ...)")
        return text
