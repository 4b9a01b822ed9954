"""Merged expositions: nothing is lost, nothing is counted twice, and a broken worker is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from corelane.core.errors import DataError
from corelane.observe.merge import counters_only, merge_expositions
from corelane.observe.metrics import MetricsCollector

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(text: bytes) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def worker(requests: int, queue: int) -> bytes:
    metrics = MetricsCollector()
    meter = metrics.request_meter("digits", "http")
    for _ in range(requests):
        meter.answered(200, 0.003)
    metrics.gauge("corelane_inference_queue_requests").set(queue)
    return metrics.render()


@given(st.lists(st.integers(0, 20), min_size=1, max_size=4))
def test_counters_and_histograms_are_summed(counts: list[int]) -> None:
    """The sum over the workers, whatever each of them has seen."""
    got = samples(merge_expositions({str(index): worker(count, 0) for index, count in enumerate(counts)}))
    labels = (("model", "digits"), ("protocol", "http"))
    assert got.get(("corelane_inference_requests_total", (*labels, ("status", "200"))), 0) == sum(counts)
    assert got["corelane_inference_latency_seconds_count", labels] == sum(counts)
    assert got["corelane_inference_latency_seconds_bucket", (("le", "0.005"), *labels)] == sum(counts)


def test_gauges_are_kept_apart_by_worker() -> None:
    """Each worker's queue is seen under its name."""
    got = samples(merge_expositions({"0": worker(1, 3), "1": worker(1, 5)}))
    assert got["corelane_inference_queue_requests", (("worker", "0"),)] == 3
    assert got["corelane_inference_queue_requests", (("worker", "1"),)] == 5


def test_merging_twice_changes_nothing_more() -> None:
    """A merged exposition may be merged again (supervisors of supervisors): gauges keep their worker."""
    merged = merge_expositions({"0": worker(1, 3), "1": worker(2, 5)})
    assert merge_expositions({"outer": merged}) == merged


def test_a_dead_workers_counters_stay() -> None:
    """Its counters count on beside the living; its gauges are gone with it."""
    kept = counters_only(worker(7, 9))
    got = samples(merge_expositions({"dead": kept, "1": worker(2, 5)}))
    key = ("corelane_inference_requests_total", (("model", "digits"), ("protocol", "http"), ("status", "200")))
    assert got[key] == 9
    assert {name for name in got if name[0] == "corelane_inference_queue_requests"} == {
        ("corelane_inference_queue_requests", (("worker", "1"),))
    }


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_label_values_survive(value: str) -> None:
    """Quotes, backslashes and line breaks in a label come through a merge unchanged."""
    metrics = MetricsCollector()
    metrics.counter("corelane_data_rejected_rows_total", value).inc()
    text = merge_expositions({"0": metrics.render()})
    expected = value if len(value) <= 120 else "other"
    assert samples(text)["corelane_data_rejected_rows_total", (("reason", expected),)] == 1


def test_values_that_are_not_finite_are_written_as_prometheus_reads_them() -> None:
    """NaN and infinities are legal values of a gauge: a diverged loss stays visible."""
    texts = {}
    for name, loss in {"a": float("nan"), "b": float("inf"), "c": float("-inf")}.items():
        metrics = MetricsCollector()
        metrics.gauge("corelane_training_loss").set(loss)
        texts[name] = metrics.render()
    lines = merge_expositions(texts).decode().splitlines()
    assert [line.split()[1] for line in lines if line.startswith("corelane_training_loss{")] == ["NaN", "+Inf", "-Inf"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (worker(1, 1)[:-10], "must end with a line break, got a torn one"),
        (b"<html>502</html>\n", "must be Prometheus text"),
        (b"\xff\xfe\n", "must be Prometheus text"),
        (b"# TYPE corelane_inference_queue_requests histogram\n", "must be a gauge, got a histogram"),
    ],
)
def test_a_broken_exposition_names_its_worker(text: bytes, message: str) -> None:
    """A torn, foreign or contradictory text is refused with the worker's name, never merged in part."""
    with pytest.raises(DataError, match="worker 'w1'") as caught:
        merge_expositions({"w0": worker(1, 1), "w1": text})
    assert message in str(caught.value)


def test_no_workers_give_an_empty_exposition() -> None:
    """While every worker is starting there is nothing to show, which is not an error."""
    assert merge_expositions({}) == b""
    assert merge_expositions({"0": b""}) == b""
