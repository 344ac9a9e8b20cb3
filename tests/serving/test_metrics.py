"""What every process tells of itself."""

from moorage.serving.metrics import ProcessMetrics


def test_every_process_tells_of_its_memory_and_processor_time_and_of_its_python() -> None:
    text = ProcessMetrics().text().decode()
    for name in ("process_resident_memory_bytes", "process_cpu_seconds_total", "python_info"):
        assert f"\n{name}" in text


def test_no_series_says_only_when_another_was_made() -> None:
    metrics = ProcessMetrics()
    metrics.loop_lag_seconds.observe(0.01)
    assert "_created" not in metrics.text().decode()
