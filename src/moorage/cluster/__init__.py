"""The Kubernetes API as this project uses it: client, reflector, kubeconfigs, and kubectl's verbs."""
