"""`moorage check`: gathers facts about a cluster, and judges whether Moorage can run there, or runs well."""
