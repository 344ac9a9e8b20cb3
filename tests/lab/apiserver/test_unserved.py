import pytest

from moorage_lab.apiserver.unserved import refusal

POD = "/api/v1/namespaces/backend/pods/backend1-x"
PLACE = "--cluster a --namespace backend"


@pytest.mark.parametrize(
    ("path", "query", "command"),
    [
        (f"{POD}/log", {}, f"moorage lab logs {PLACE} backend1-x"),
        (
            f"{POD}/log",
            {"container": ["c"], "follow": ["true"]},
            f"moorage lab logs {PLACE} --container c --follow backend1-x",
        ),
        (f"{POD}/exec", {"command": ["ls", "a b"]}, f"moorage lab exec {PLACE} backend1-x -- ls 'a b'"),
        (f"{POD}/exec", {}, f"moorage lab exec {PLACE} backend1-x -- COMMAND"),
        (f"{POD}/attach", {"container": ["c"]}, f"moorage lab logs {PLACE} --container c --follow backend1-x"),
        (f"{POD}/ephemeralcontainers", {}, f"moorage lab exec {PLACE} backend1-x -- COMMAND"),
        (f"{POD}/portforward", {}, f"moorage lab exec {PLACE} backend1-x -- COMMAND"),
        (f"{POD}/proxy/healthz", {}, f"moorage lab exec {PLACE} backend1-x -- COMMAND"),
        (
            "/api/v1/namespaces/backend/services/s/proxy/",
            {},
            f"moorage lab exec {PLACE} POD -- COMMAND",
        ),
        ("/api/v1/nodes/node-1/proxy/", {}, "moorage lab exec --cluster a node-1 -- COMMAND"),
    ],
)
def test_what_is_not_served_is_answered_with_the_command_that_does_it(
    path: str, query: dict[str, list[str]], command: str
) -> None:
    error = refusal("a", path, query)
    assert error is not None
    assert (error.code, error.reason) == (405, "MethodNotAllowed")
    assert error.message.endswith(f"with: {command}")


@pytest.mark.parametrize("path", [f"{POD}/nonsense", "/api/v1/namespaces/backend/secrets/s/proxy", "/healthz"])
def test_other_paths_are_somebody_else_s_to_answer(path: str) -> None:
    assert refusal("a", path, {}) is None
