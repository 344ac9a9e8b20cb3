"""The metrics: what is told, and labels that do not grow with the number of objects."""

from moorage.operator.metrics import Metrics


def series(metrics: Metrics) -> dict[str, float]:
    lines = metrics.text().decode().splitlines()
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if not line.startswith("#")}


def test_every_verdict_and_state_is_there_from_the_beginning() -> None:
    found = series(Metrics())
    for health in ("Healthy", "Unhealthy", "Unknown", "Unchecked"):
        assert found[f'moorage_endpoints{{health="{health}"}}'] == 0
    for state in ("current", "problem"):
        assert found[f'moorage_sources{{state="{state}"}}'] == 0
    for part in ("checks", "sources"):
        assert found[f'moorage_child_restarts_total{{part="{part}"}}'] == 0


def test_endpoints_that_are_gone_are_no_longer_counted() -> None:
    metrics = Metrics()
    metrics.set_endpoints({"Healthy": 3, "Unknown": 1})
    metrics.set_endpoints({"Healthy": 2})
    found = series(metrics)
    assert found['moorage_endpoints{health="Healthy"}'] == 2
    assert found['moorage_endpoints{health="Unknown"}'] == 0


def test_probes_are_counted_by_how_they_went() -> None:
    metrics = Metrics()
    metrics.count_probe(True, 0.003)
    metrics.count_probe(False, 1.0)
    found = series(metrics)
    assert found['moorage_probes_total{result="ok"}'] == found['moorage_probes_total{result="failed"}'] == 1
    assert found["moorage_probe_seconds_count"] == 2


def test_two_of_a_process_do_not_disturb_each_other() -> None:
    one, other = Metrics(), Metrics()
    one.leader.set(1)
    assert series(other)["moorage_leader"] == 0


def test_who_does_not_lead_any_more_leaves_what_there_is_to_the_leader() -> None:
    def of_moorage(metrics: Metrics) -> dict[str, float]:
        return {name: value for name, value in series(metrics).items() if name.startswith("moorage_")}

    metrics = Metrics()
    before = of_moorage(metrics)
    for gauge in (metrics.leader, metrics.synced, metrics.queue_depth, metrics.external_services):
        gauge.set(1)
    metrics.set_sources(3, 1)
    metrics.unreadable.labels("Service").set(1)
    metrics.refresh = lambda: metrics.set_endpoints({"Healthy": 3})
    assert of_moorage(metrics)['moorage_endpoints{health="Healthy"}'] == 3
    assert len(set(of_moorage(metrics).items()) - set(before.items())) == 8
    metrics.rest()
    assert of_moorage(metrics) == before
