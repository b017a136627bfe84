# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Reads OTLP messages with OpenTelemetry's own definitions: one a line, in base64, on stdin. Says
what is in each, and complains about what is not right, as one line of JSON on stdout."""
import base64
import json
import sys

from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2

CUMULATIVE = metrics_pb2.AGGREGATION_TEMPORALITY_CUMULATIVE


def value_of(attribute):
    return getattr(attribute.value, attribute.value.WhichOneof("value"))


def attributes_of(thing):
    result = {a.key: value_of(a) for a in thing.attributes}
    assert len(result) == len(thing.attributes), "a key comes twice"
    return result


def points_of(metric):
    if metric.HasField("gauge"):
        return metric.gauge.data_points
    assert metric.sum.is_monotonic and metric.sum.aggregation_temporality == CUMULATIVE, metric.name
    for point in metric.sum.data_points:
        assert 0 < point.start_time_unix_nano <= point.time_unix_nano, metric.name
    return metric.sum.data_points


def read(data):
    """{"time": ns, "points": [[name, labels, value]]}"""
    message = metrics_service_pb2.ExportMetricsServiceRequest.FromString(data)
    message.DiscardUnknownFields()
    assert message.ByteSize() == len(data), "there is something that OTLP has no name for"
    points, times, resources = [], set(), set()
    for part in message.resource_metrics:
        labels = attributes_of(part.resource)
        resources.add(labels["service.instance.id"])
        assert labels["service.name"] and labels["host.name"], labels
        for scope in part.scope_metrics:
            assert scope.scope.name == "pytrace-bpf" and scope.scope.version, scope.scope
            assert len({m.name for m in scope.metrics}) == len(scope.metrics), "a name comes twice"
            for metric in scope.metrics:
                assert metric.description and metric.unit in ("1", "s", "By"), metric.name
                for point in points_of(metric):
                    times.add(point.time_unix_nano)
                    value = getattr(point, point.WhichOneof("value"))
                    assert isinstance(value, float) == (metric.unit == "s"), metric.name
                    points.append([metric.name, {**labels, **attributes_of(point)}, value])
    assert len(resources) == len(message.resource_metrics), "a resource comes twice"
    assert len(times) == 1, times
    return {"time": times.pop(), "points": points}


print(json.dumps([read(base64.b64decode(line)) for line in sys.stdin]))
