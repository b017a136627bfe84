# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Reads OTLP traces with OpenTelemetry's own definitions: one message a line, in base64, on stdin. Says
what is in them, and complains about what is not right, as one line of JSON on stdout:
[{"trace", "resource", "spans": [{"name", "kind", "start", "end", "parent", "attributes"}]}], the first span
being the root, parent the place of the span's parent."""
import base64
import json
import sys

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.trace.v1 import trace_pb2


def attributes_of(thing):
    result = {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in thing.attributes}
    assert len(result) == len(thing.attributes), "a key comes twice"
    return result


def read_span(span, places):
    assert len(span.trace_id) == 16 and any(span.trace_id), span.trace_id
    assert len(span.span_id) == 8 and any(span.span_id), span.span_id
    assert span.span_id not in places, "an id comes twice"
    assert 0 < span.start_time_unix_nano <= span.end_time_unix_nano, span
    assert span.name and not span.HasField("status"), span
    places[span.span_id] = len(places)
    parent = places[span.parent_span_id] if span.parent_span_id else None
    return {"name": span.name, "kind": trace_pb2.Span.SpanKind.Name(span.kind), "parent": parent,
            "start": span.start_time_unix_nano, "end": span.end_time_unix_nano,
            "attributes": attributes_of(span)}


def read(data):
    message = trace_service_pb2.ExportTraceServiceRequest.FromString(data)
    message.DiscardUnknownFields()
    assert message.ByteSize() == len(data), "there is something that OTLP has no name for"
    traces = {}
    for part in message.resource_spans:
        resource = attributes_of(part.resource)
        assert resource["service.name"] and resource["host.name"], resource
        scope, = part.scope_spans
        assert scope.scope.name == "pytrace-bpf" and scope.scope.version, scope.scope
        for span in scope.spans:
            trace = traces.setdefault(span.trace_id, ({"trace": span.trace_id.hex(), "spans": [],
                                                       "resource": resource}, {}))
            trace[0]["spans"].append(read_span(span, trace[1]))
    return [trace for trace, _ in traces.values()]


print(json.dumps([trace for line in sys.stdin for trace in read(base64.b64decode(line))]))
