"""The Kubernetes API as this project uses it: client, reflector, work queue, election, kubeconfigs."""
