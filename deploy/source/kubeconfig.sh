#!/bin/sh
# Prints the kubeconfig with which the operator of another cluster reads this cluster's Services in NAMESPACE.
# deploy/source must be applied there. SERVER is where the other cluster reaches this one's API server, if not where
# the current context does.
#
# usage: kubeconfig.sh NAMESPACE [SERVER]
set -eu
namespace=${1:?usage: kubeconfig.sh NAMESPACE [SERVER]}

fail() {
    echo "kubeconfig.sh: $*" >&2
    exit 1
}

of_cluster() { # FIELD: of the current context's cluster
    kubectl config view --minify --flatten --raw -o "jsonpath={.clusters[0].cluster.$1}"
}

of_secret() { # KEY
    kubectl --namespace "$namespace" get secret moorage-reader -o "jsonpath={.data.$1}"
}

server=${2:-$(of_cluster server)}
case $server in
https://localhost[:/]* | https://127.* | https://\[::1\]*)
    echo "kubeconfig.sh: $server is this machine only; name the address that others reach: $0 $namespace https://..." >&2
    ;;
esac

# Kubernetes writes the token a moment after the Secret was made.
tries=0
until token=$(of_secret token) && [ -n "$token" ]; do
    tries=$((tries + 1))
    [ $tries -lt 30 ] || fail "Secret $namespace/moorage-reader has no token; kubectl apply -k deploy/source first"
    sleep 1
done
# The authority that goes with the server's address. None: one that every machine trusts, unless nothing was verified.
ca=$(of_cluster certificate-authority-data)
if [ -z "$ca" ] && [ "$(of_cluster insecure-skip-tls-verify)" = true ]; then
    ca=$(of_secret 'ca\.crt')
fi

cat <<KUBECONFIG
apiVersion: v1
kind: Config
clusters:
- name: source
  cluster:
    server: $server
${ca:+    certificate-authority-data: $ca}
users:
- name: moorage-reader
  user:
    token: $(printf %s "$token" | base64 -d)
contexts:
- name: source
  context:
    cluster: source
    namespace: $namespace
    user: moorage-reader
current-context: source
KUBECONFIG
