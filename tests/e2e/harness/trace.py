# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Reads a Chrome trace as strictly as its pickiest reader does, and turns it into call trees.

check() raises TraceError at the first thing that is wrong: JSON, schema, times that are not whole
nanoseconds, slices that do not nest exactly per (pid, tid).
"""
import gzip
import json
import re


class TraceError(AssertionError):
    pass


class Ns(int):
    """A time in nanoseconds, written as microseconds with exactly three decimals."""


def _number(text):
    whole, _, decimals = text.partition(".")
    if len(decimals) == 3 and "e" not in text and "E" not in text:
        sign = -1 if whole.startswith("-") else 1
        return Ns(int(whole) * 1000 + sign * int(decimals))
    return float(text)


def _constant(text):
    raise TraceError("%s is not JSON" % text)


def _no_duplicates(pairs):
    result = dict(pairs)
    if len(result) != len(pairs):
        raise TraceError("an object has a key twice: %s" % [k for k, _ in pairs])
    return result


NAME = re.compile(r"^(?P<file>.*)\((?P<line>\d+)\): (?P<name>.*)$", re.DOTALL)
# What is no Python call lies on the same tracks and nests with the calls.
SPANS = {"gc", "gil", "import", "mark", "cuda_runtime", "cuda_driver", "nccl", "cublas",
         "cudnn", "cpu_op", "asyncio_step", "asyncio_wait", "python_sample", "off_cpu"}
# A thread's states are slices under its tid and this (user/sink/sink.h).
STATE, STATE_TID_BASE = "thread_state", 1000000000
INSTANTS = {"control", "audit", "exception", "loss", "mark", "process", "cuda", "cuda_error",
            "cuda_memory", "gpu_bounds"}
C_NAME = re.compile(r"^<built-in (function \S.*|method .* of \S.* object)>$", re.DOTALL)
KEYS = ["schemaVersion", "traceEvents", "displayTimeUnit", "baseTimeNanoseconds", "traceName"]


class Slice:
    __slots__ = ("begin", "end", "file", "line", "name", "args", "children", "event", "parent")
    is_call = True

    def __init__(self, event):
        match = NAME.match(event["name"])
        c_function = not match and C_NAME.match(event["name"])
        if not match and not c_function:
            raise TraceError("name is not 'path(line): qualname': %r" % event["name"])
        self.event = event
        self.begin, self.end = int(event["ts"]), int(event["ts"]) + int(event["dur"])
        self.file, self.line, self.name = "", 0, event["name"]
        if match:
            self.file, self.line, self.name = match["file"], int(match["line"]), match["name"]
        self.args = event.get("args", {})
        if "CallFrom" in self.args:  # "file:line"; nest() checks the file
            self.args = dict(self.args, CallFrom=int(self.args["CallFrom"].rsplit(":", 1)[1]))
        self.children = []

    @property
    def key(self):
        return self.file, self.line, self.name

    @property
    def is_c(self):
        return self.is_call and not self.file and C_NAME.match(self.name) is not None

    def walk(self):
        stack = [self]
        while stack:
            s = stack.pop()
            yield s
            stack.extend(s.children)


class Span(Slice):
    """What is no Python call: .parent is the slice around it, .calls() are the calls within."""
    __slots__ = ("category",)
    is_call = False

    def __init__(self, event):
        self.event = event
        self.begin, self.end = int(event["ts"]), int(event["ts"]) + int(event["dur"])
        self.name, self.category = event["name"], event["cat"]
        self.args = event.get("args", {})
        self.children = []

    def calls(self):
        return lift(self.children)


def lift(slices):
    """The calls among slices, and those within spans among them, in order."""
    result = []
    for s in slices:
        result.extend([s] if s.is_call else lift(s.children))
    return result


class Range:
    def __init__(self, begin, end):
        self.event, self.name, self.args = begin, begin["name"], begin.get("args", {})
        self.begin, self.end = int(begin["ts"]), int(end["ts"])


def pair_ranges(events):
    """Each b has its e, of the same name, and those of one id nest."""
    edges = sorted((e for e in events if e["ph"] in "be"), key=lambda e: e["ts"])
    stacks, ranges = {}, []
    for e in edges:
        stack = stacks.setdefault((e["pid"], e["cat"], e["id"]), [])
        if e["ph"] == "b":
            stack.append(e)
            continue
        if not stack or stack[-1]["name"] != e["name"] or stack[-1]["tid"] != e["tid"]:
            raise TraceError("this ends what is not open: %r, but %r" % (e, stack[-1:]))
        ranges.append(Range(stack.pop(), e))
    if any(stacks.values()):
        raise TraceError("ranges without an end: %r" % [s for s in stacks.values() if s])
    return sorted(ranges, key=lambda r: r.begin)


class Bound(Range):
    """Of the work of a GPU: not measured."""


def pair_bounds(events):
    """{(pid, tid): [Bound]}, in order; those of a track do not overlap."""
    edges = {}
    for e in events:
        if e["ph"] in "BE":
            edges.setdefault((e["pid"], e["tid"]), []).append(e)
    for track, own in edges.items():
        times = [e["ts"] for e in own]
        if times != sorted(times) or [e["ph"] for e in own] != ["B", "E"] * (len(own) // 2):
            raise TraceError("bounds overlap, or have no end: %r" % own)
    return {track: [Bound(b, e) for b, e in zip(own[::2], own[1::2])]
            for track, own in edges.items()}


def pair_flows(events):
    """Each s has its f, of the same name and category, and not before it."""
    begins = {(e["id"], e["cat"], e["name"]): e for e in events if e["ph"] == "s"}
    ends = {(e["id"], e["cat"], e["name"]): e for e in events if e["ph"] == "f"}
    count = sum(e["ph"] in "sf" for e in events)
    if set(begins) != set(ends) or count != len(begins) + len(ends):
        raise TraceError("flows do not pair: %r, %r" % (sorted(begins), sorted(ends)))
    flows = [(begins[key], ends[key]) for key in begins]
    for s, f in flows:
        if f["ts"] < s["ts"] or f.get("bp") != "e":
            raise TraceError("a flow leads back, or to no slice: %r, %r" % (s, f))
    return flows


class Trace:
    def __init__(self, document):
        self.document = document
        self.events = document["traceEvents"]
        self.threads = {}  # (pid, tid) -> [root slices]: the calls, as if there were no spans
        self.states = {}   # (pid, tid) -> [Span]: running, runnable, blocked .., in order
        self.spans = []    # in order of their begin, by thread
        self.instants = []  # those of the runtime: audit events, exceptions; marks
        self.ranges = []  # what need not nest with calls, in order of their begin
        self.flows = []  # (where it begins, where it leads)
        self.bounds = {}  # (pid, tid) -> [Bound]: when GPUs may have worked
        self.count = 0  # calls
        self.processes = {}  # pid -> name
        for event in self.events:
            if event["ph"] == "X" and event["cat"] == STATE:
                self.states.setdefault((event["pid"], event["tid"] - STATE_TID_BASE),
                                       []).append(Span(event))
            elif event["ph"] == "X":
                call = event["cat"] == "python_function"
                s = Slice(event) if call else Span(event)
                self.threads.setdefault((event["pid"], event["tid"]), []).append(s)
                self.count += call
            elif event["ph"] == "i" and event["cat"] in ("audit", "exception", "mark"):
                self.instants.append(event)
            elif event["ph"] == "M" and event["name"] == "process_name":
                self.processes[event["pid"]] = event["args"]["name"]
        self.holes = {key: check_states(states) for key, states in self.states.items()}
        self.ranges = pair_ranges(self.events)
        self.flows = pair_flows(self.events)
        self.bounds = pair_bounds(self.events)
        for key, slices in list(self.threads.items()):
            roots = nest(key, slices)
            every = [s for root in roots for s in root.walk()]
            self.spans += sorted((s for s in every if not s.is_call), key=lambda s: s.begin)
            for s in every:
                if s.is_call:
                    s.children = lift(s.children)
            self.threads[key] = lift(roots)

    def slices(self):
        for roots in self.threads.values():
            for root in roots:
                yield from root.walk()

    def named(self, name):
        return [s for s in self.slices() if s.name == name]

    def counts(self):
        result = {}
        for s in self.slices():
            result[s.name] = result.get(s.name, 0) + 1
        return result

    def spans_of(self, category):
        return [s for s in self.spans if s.category == category]

    def of_pid(self, pid):
        return {key: roots for key, roots in self.threads.items() if key[0] == pid}


def check_call_from(key, s):
    """CallFrom names the file of the Python function that the slice lies in."""
    called_from = s.event.get("args", {}).get("CallFrom")
    around = s.parent
    while around and not (around.is_call and around.file):
        around = around.parent
    if called_from and (not around or called_from.rsplit(":", 1)[0] != around.file):
        raise TraceError("%s: %s is said to be called from %r" % (key, s.name, called_from))


def nest(key, slices):
    """Builds the tree; two slices are disjoint or one holds the other, with no equal boundaries."""
    slices.sort(key=lambda s: (s.begin, -s.end))
    roots, stack = [], []
    seen = set()
    for s in slices:
        if s.end <= s.begin:
            raise TraceError("%s: an empty slice at %d ns: %s" % (key, s.begin, s.name))
        for boundary in (s.begin, s.end):
            if boundary in seen:
                raise TraceError("%s: two boundaries at %d ns (%s)" % (key, boundary, s.name))
            seen.add(boundary)
        while stack and stack[-1].end < s.begin:
            stack.pop()
        if stack and s.end > stack[-1].end:
            raise TraceError("%s: %s [%d, %d] overlaps %s [%d, %d]" % (
                key, s.name, s.begin, s.end, stack[-1].name, stack[-1].begin, stack[-1].end))
        s.parent = stack[-1] if stack else None
        check_call_from(key, s)
        (stack[-1].children if stack else roots).append(s)
        stack.append(s)
    return roots


def check_states(states):
    """The states of a thread come in order and do not overlap. Returns how often one does not begin
    where the one before ends: where a thread is not recorded, there is no state."""
    holes = 0
    for before, after in zip(states, states[1:]):
        if after.begin < before.end or after.end <= after.begin:
            raise TraceError("the state %s at %d ns overlaps %s" % (after.name, after.begin,
                                                                    before.name))
        if after.name == before.name == "running" and after.begin == before.end:
            raise TraceError("two turns without a switch at %d ns" % after.begin)
        holes += after.begin != before.end
    return holes


def _require(condition, text, *args):
    if not condition:
        raise TraceError(text % args)


def check_event(event):
    ph = event.get("ph")
    _require(ph in ("X", "M", "i", "C", "s", "f", "b", "e") or
             ph in ("B", "E") and event.get("cat") == "gpu_bounds", "unexpected ph in %r", event)
    _require(isinstance(event.get("name"), str), "no name in %r", event)
    _require(isinstance(event.get("pid"), int) and "tid" in event or ph in ("M", "C"),
             "no pid or tid in %r", event)
    if ph != "M":
        _require(isinstance(event.get("ts"), Ns), "ts is not in whole nanoseconds: %r", event)
    if ph == "X":
        _require(isinstance(event.get("dur"), Ns), "dur is not in whole nanoseconds: %r", event)
        _require(event.get("cat") in SPANS | {"python_function", STATE},
                 "unknown cat in %r", event)
    if ph == "i":
        _require(event.get("s") == "t" or event.get("s") in ("p", "g"), "no scope in %r", event)
        _require(event.get("cat") in INSTANTS, "unknown cat in %r", event)


def check_ids(trace):
    """Python id is unique, and Python parent id names the slice around it. In a document that was cut
    short the parent may be missing, since outer slices come after inner ones; likewise if calls that
    were still running were left out."""
    seen = set()
    summary = trace.document.get("pytrace-bpf summary", {})
    cut = summary.get("document cut short") or summary.get("running calls left out")
    every = {s.args.get("Python id") for s in trace.slices()} if cut else ()
    for roots in trace.threads.values():
        stack = [(root, None) for root in roots]
        while stack:
            s, parent = stack.pop()
            own = s.args.get("Python id")
            if own is not None:
                _require(own not in seen, "Python id %s comes twice", own)
                seen.add(own)
                expected = parent.args["Python id"] if parent else None
                got = s.args.get("Python parent id")
                _require(got == expected or (expected is None and not got) or
                         (cut and expected is None and got not in every),
                         "Python parent id of %s is %s, not %s", s.name, got, expected)
            stack.extend((child, s) for child in s.children)


def load(path_or_bytes, check=True):
    data = path_or_bytes
    if not isinstance(data, bytes):
        with open(path_or_bytes, "rb") as file:
            data = file.read()
        if str(path_or_bytes).endswith(".gz"):
            data = gzip.decompress(data)
    try:
        text = data.decode("utf-8")
        document = json.loads(text, parse_float=_number, parse_constant=_constant,
                              object_pairs_hook=_no_duplicates)
    except ValueError as error:
        raise TraceError("not JSON in UTF-8: %s" % error) from None
    if check:
        for key in KEYS:
            _require(key in document, "the document has no %s", key)
        _require(document["schemaVersion"] == 1, "schemaVersion is %r", document["schemaVersion"])
        for event in document["traceEvents"]:
            check_event(event)
    trace = Trace(document)
    if check:
        check_ids(trace)
        named = {(e["pid"], e.get("tid")) for e in trace.events
                 if e["ph"] == "M" and e["name"] == "thread_name"}
        for pid, tid in trace.states:
            _require((pid, STATE_TID_BASE + tid) in named, "states of %d have no name", tid)
        for key in trace.threads:
            _require(key in named, "thread %s has slices but no thread_name", key)
            _require(key[0] in trace.processes, "process %d has no process_name", key[0])
    return trace
