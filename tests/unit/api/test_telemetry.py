"""The example of OpenTelemetry in docs/api.md runs, and what it records arrives."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

TEXT = (Path(__file__).parents[3] / "docs" / "api.md").read_text(encoding="utf-8")


def test_the_example(tmp_path: Path) -> None:
    (program,) = re.findall(r"^```python\n(from opentelemetry.*?)^```", TEXT, re.S | re.M)
    assert len([line for line in program.splitlines() if line.strip()]) <= 15
    spans, read = InMemorySpanExporter(), InMemoryMetricReader()
    tracing = TracerProvider()
    tracing.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(tracing)
    metrics.set_meter_provider(MeterProvider([read]))
    source = tmp_path / "source"
    source.mkdir()
    (source / "values.yaml").write_text("a: 1\n" * 1000)
    exec(program, {"BASE": f"oci:{tmp_path}/base", "SOURCE": source})
    (span,) = spans.get_finished_spans()
    assert span.name == "save"
    recorded: dict[str, Any] = dict(span.attributes or {})
    assert recorded["layer_packer.pack.bytes"] == 5000
    data = read.get_metrics_data()
    assert data is not None
    (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
    (point,) = metric.data.data_points
    assert metric.name == "layer_packer.events"
    assert dict(point.attributes or {}) == {"kind": "saved", "app": "app"}
