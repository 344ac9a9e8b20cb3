"""Secrets with kubeconfigs, as tenants make them."""

import base64
from typing import Any

import yaml

from moorage.api.core_v1 import Secret
from moorage.api.meta import ObjectMeta
from moorage.cluster.kubeconfig import Config
from moorage.core.admission import Gate, gate_of

LOOPBACK_ALLOWED: Gate = gate_of(allow=["127.0.0.0/8"])
"""For servers of tests, which have no other address."""


def kubeconfig(cluster: dict[str, Any], user: dict[str, Any], **more: Any) -> str:
    """YAML text with the one context `a`."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "a", "cluster": cluster}],
        "users": [{"name": "reader", "user": user}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "reader"}}],
        "current-context": "a",
        **more,
    }
    return yaml.safe_dump(content, sort_keys=False)


def kubeconfig_of(config: Config, **more: str) -> str:
    """As `deploy/source/kubeconfig.sh` writes it; `more` goes into the cluster."""
    authority = encoded(config.ca or "")
    return kubeconfig(
        {"server": config.server, "certificate-authority-data": authority, **more}, {"token": config.token}
    )


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def secret(text: str, name: str = "cluster-a", namespace: str = "frontend") -> Secret:
    return Secret(metadata=ObjectMeta(name=name, namespace=namespace), data={"kubeconfig": encoded(text)})
