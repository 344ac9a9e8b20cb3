"""A decision and what would be decided after a change come from the same kind of value."""

from msgspec.structs import replace

from moorage.api.moorage_v1alpha1 import Drain
from moorage.core.decide import decide
from moorage.core.model import Patch
from testing.xsvc import Story, answers, endpoints, verdicts, xsvc


def test_what_a_drain_or_a_removal_would_do_is_decided_from_a_changed_snapshot() -> None:
    story = Story(xsvc())
    story.step(endpoints(3))
    before = story.snapshot(answers(endpoints(3)), verdicts(endpoints(3)))
    assert decide(before).writes == ()
    drained = replace(before.xsvc, spec=replace(before.xsvc.spec, drain=[Drain(endpoint="b0002")]))
    would = decide(before._replace(xsvc=drained))
    assert [(each.name, each.ready) for each in would.status.endpoints or ()] == [
        ("b0001", True),
        ("b0002", False),
        ("b0003", True),
    ]
    would = decide(before._replace(resolutions=answers(endpoints(2))).merge())
    assert [each.name for each in would.status.endpoints or ()] == ["b0001", "b0002"]
    assert [type(write) for write in would.writes] == [Patch]
