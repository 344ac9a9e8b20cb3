"""The Kubernetes types that Moorage reads and writes, and how they are read from YAML and checked."""
