#!/bin/sh
# Prints the kubeconfig with which the operator of another cluster reads this cluster's Services in NAMESPACE, where
# deploy/source has been applied. SERVER: where the other cluster reaches this one's API server, if it is not where the
# context says. Needs nothing but kubectl.
set -eu

usage="usage: kubeconfig.sh [--context NAME] NAMESPACE [SERVER]"
context=
if [ "${1-}" = --context ]; then
    context=${2:?$usage}
    shift 2
fi
namespace=${1:?$usage}

say() {
    echo "kubeconfig.sh: $*" >&2
}

of_cluster() { # FIELD: what the context says of its cluster
    kubectl ${context:+"--context=$context"} config view --minify --flatten --raw \
        -o "jsonpath={.clusters[0].cluster.$1}"
}

of_secret() { # KEY FUNCTION: of Go's templates, which its value is put through
    kubectl ${context:+"--context=$context"} --namespace "$namespace" get secret moorage-reader \
        -o "go-template={{with .data}}{{with index . \"$1\"}}{{$2 .}}{{end}}{{end}}"
}

server=${2:-$(of_cluster server)}
case $server in
https://localhost[:/]* | https://127.* | https://\[::1\]*)
    say "$server is this machine only; name the address that the other cluster reaches: $namespace https://HOST:PORT"
    ;;
esac

# Kubernetes writes the token a moment after the Secret was made.
tries=0
until token=$(of_secret token base64decode) && [ -n "$token" ]; do
    tries=$((tries + 1))
    if [ "$tries" -ge 30 ]; then
        say "Secret $namespace/moorage-reader has no token; apply deploy/source to this cluster first"
        exit 1
    fi
    sleep 1
done
# The authority that goes with the server's address. None: one that every machine trusts, unless nothing was verified.
authority=$(of_cluster certificate-authority-data)
if [ -z "$authority" ] && [ "$(of_cluster insecure-skip-tls-verify)" = true ]; then
    authority=$(of_secret ca.crt print)
fi
name=$(of_cluster tls-server-name)

cat <<KUBECONFIG
apiVersion: v1
kind: Config
clusters:
- name: source
  cluster:
    server: $server
${authority:+    certificate-authority-data: $authority
}${name:+    tls-server-name: $name
}users:
- name: moorage-reader
  user:
    token: $token
contexts:
- name: source
  context:
    cluster: source
    namespace: $namespace
    user: moorage-reader
current-context: source
KUBECONFIG
