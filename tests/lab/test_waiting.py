import pytest

from moorage.api.apps_v1 import Deployment, DeploymentSpec, DeploymentStatus
from moorage.api.meta import ObjectMeta
from moorage.lab.waiting import is_complete

UP = DeploymentStatus(observed_generation=3, replicas=2, updated_replicas=2, ready_replicas=2)


@pytest.mark.parametrize(
    ("replicas", "status", "expected"),
    [
        (2, UP, True),
        (0, DeploymentStatus(observed_generation=3), True),
        (None, DeploymentStatus(observed_generation=3, replicas=1, updated_replicas=1, ready_replicas=1), True),
        (2, DeploymentStatus(observed_generation=2, replicas=2, updated_replicas=2, ready_replicas=2), False),
        (2, DeploymentStatus(observed_generation=3, replicas=2, updated_replicas=2, ready_replicas=1), False),
        (2, DeploymentStatus(observed_generation=3, replicas=3, updated_replicas=2, ready_replicas=2), False),
        (0, UP, False),
    ],
)
def test_a_deployment_is_complete_with_exactly_its_pods(
    replicas: int | None, status: DeploymentStatus, expected: bool
) -> None:
    spec = DeploymentSpec(replicas=replicas)
    assert is_complete(Deployment(metadata=ObjectMeta(generation=3), spec=spec, status=status)) is expected
