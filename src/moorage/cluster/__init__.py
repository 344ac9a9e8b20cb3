"""Access to the Kubernetes API: client, reflector, work queue, election, kubeconfigs."""
