"""The API server that other tests use."""

from e2e.harness.control_plane import ApiServer


def test_it_is_the_version_that_was_built(api_server: ApiServer) -> None:
    assert "v1.34.4" in api_server.kubectl("version")


def test_objects_survive_a_restart(api_server: ApiServer, namespace: str) -> None:
    api_server.kubectl("-n", namespace, "create", "configmap", "kept", "--from-literal=a=b")
    api_server.restart()
    assert api_server.get("-n", namespace, "configmap", "kept")["data"] == {"a": "b"}
