# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Decodes raw records and checks what include/pt_abi.h promises; see README.md."""
import collections
import struct
import sys

HDR = struct.Struct("<HHIIIIIQ")
BATCH = struct.Struct("<QQIIII16s")
CODE = struct.Struct("<QIII")
BATCH_REC, CODE_REC, PROC_REC, THREAD_REC = 1, 2, 3, 4
PEEK, LAST = 1, 2
ENCODING = {1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}

Code = collections.namedtuple("Code", "id name qualname file line flags addr image")
Batch = collections.namedtuple(
    "Batch", "flags tgid tid image time base before seq depth words events comm")


def records(path):
    data = open(path, "rb").read()
    at = 0
    while at < len(data):
        kind, flags, length, tgid, tid, image, _, time = HDR.unpack_from(data, at)
        assert length % 8 == 0 and length >= 32 and at + length <= len(data), (kind, length)
        yield kind, flags, tgid, tid, image, time, data[at + 32:at + length]
        at += length


def decode_code(image, body):
    addr, code_id, line, flags = CODE.unpack_from(body)
    at, texts = 40, []
    for i in range(3):
        size, width, cut = struct.unpack_from("<HBB", body, 20 + 4 * i)
        texts.append(None if cut == 2 else body[at:at + size].decode(ENCODING[width], "replace"))
        at += size
    return Code(code_id, texts[0], texts[1], texts[2], line, flags, addr, image)


class Recording:
    def __init__(self, path):
        self.codes, self.batches, self.procs, self.threads = {}, {}, [], []
        self.peeks, self.problems = {}, []
        for kind, flags, tgid, tid, image, time, body in records(path):
            if kind == CODE_REC:
                code = decode_code(image, body)
                self.codes[code.id] = code
            elif kind == BATCH_REC:
                self._batch(flags, tgid, tid, image, time, body)
            elif kind == PROC_REC:
                what, ptgid, pimage, code, ns, _, _, _, comm = struct.unpack_from(
                    "<IIIiIIII16s", body)
                self.procs.append((what, tgid, image, ptgid, pimage, code, ns,
                                   comm.split(b"\0")[0].decode()))
            elif kind == THREAD_REC:
                total, what, ns, comm = struct.unpack_from("<QII16s", body)
                self.threads.append((what, tgid, tid, image, total, ns))

    def _batch(self, flags, tgid, tid, image, time, body):
        base, before, seq, depth, count, events, comm = BATCH.unpack_from(body)
        assert len(body) == 48 + 8 * count
        words = struct.unpack_from("<%dQ" % count, body, 48)
        batch = Batch(flags, tgid, tid, image, time, base, before, seq, depth, words, events,
                      comm.split(b"\0")[0].decode())
        key = (image, tid)
        if flags & PEEK:
            old = self.peeks.get((key, seq))
            if old and old.words != words[:len(old.words)]:
                self.problems.append("peek of %s seq %d changed" % (key, seq))
            self.peeks[key, seq] = batch
            return
        self.batches.setdefault(key, []).append(batch)

    def thread(self, key):
        """Events of one thread in order: (time, kind, code or depth, depth after)."""
        batches = sorted(self.batches.get(key, []), key=lambda b: b.seq)
        rest = [b for (k, seq), b in self.peeks.items()
                if k == key and (not batches or seq > batches[-1].seq)]
        batches += sorted(rest, key=lambda b: b.seq)
        for (k, seq), peek in self.peeks.items():
            for b in batches:
                if k == key and b.seq == seq and b is not peek and \
                        b.words[:len(peek.words)] != peek.words:
                    self.problems.append("peek of %s seq %d is not a prefix" % (key, seq))
        expect, depth, total, open_left = 0, 0, 0, 0
        stack = {}
        for b in batches:
            if b.seq != expect:
                yield b.base, "gap", (expect, b.seq), depth
            elif b.before != total:
                self.problems.append("%s seq %d: %d events before, we saw %d"
                                     % (key, b.seq, b.before, total))
            if b.depth != depth and b.seq == expect:
                self.problems.append("%s seq %d: depth %d, we have %d"
                                     % (key, b.seq, b.depth, depth))
            depth, expect = b.depth, b.seq + 1
            events, i, last = 0, 0, 0
            while i < len(b.words):
                w = b.words[i]
                kind, arg, dt = w & 7, w >> 3 & 0x1fffff, w >> 24
                if kind == 5:  # PT_W_LINE
                    i += 1
                    continue
                if dt < last:
                    self.problems.append("%s: time goes back" % (key,))
                last, time = dt, b.base + dt
                i += 1
                if kind == 1 or (kind == 0 and arg & 255 == 4):
                    if kind == 0:
                        arg = b.words[i]
                        i += 1
                    depth += 1
                    events += 1
                    if arg not in self.codes:
                        self.problems.append("%s: code %d is not defined" % (key, arg))
                    yield time, "enter", self.codes.get(arg), depth
                elif kind == 2:
                    depth = arg
                    events += 1
                    yield time, "exit", arg, depth
                elif kind == 0:
                    what, n = arg & 255, arg >> 8
                    payload = b.words[i:i + n]
                    i += n
                    if what == 1:
                        depth = payload[0]
                        yield time, "depth", depth, depth
                    elif what == 2:
                        if open_left:
                            self.problems.append("%s: snapshot within a snapshot" % (key,))
                        open_left, depth = payload[0] & 0xffffffff, payload[0] >> 32
                        yield time, "snap", open_left, depth
                    elif what == 3:
                        for p in payload:
                            open_left -= 1
                            yield time, "open", self.codes.get(p & 0xffffffff), p >> 32
                    else:
                        self.problems.append("%s: word %#x" % (key, w))
                else:
                    self.problems.append("%s: word %#x" % (key, w))
                if open_left and kind in (1, 2):
                    self.problems.append("%s: event within a snapshot" % (key,))
                    open_left = 0
            if events != b.events:
                self.problems.append("%s seq %d: %d events, header says %d"
                                     % (key, b.seq, events, b.events))
            total = b.before + events

    def keys(self):
        return sorted(set(self.batches) | {k for k, _ in self.peeks})

    def batches_tgid(self, key):
        found = self.batches.get(key) or [b for (k, _), b in self.peeks.items() if k == key]
        return found[0].tgid

    def calls(self, key):
        """('enter'|'exit', Code) with a stack kept by depth; frames of snapshots included."""
        stack = []  # (depth, code)
        for time, kind, what, depth in self.thread(key):
            if kind == "enter":
                while stack and stack[-1][0] >= depth:
                    stack.pop()
                    yield time, "vanish", None, depth
                stack.append((depth, what))
                yield time, "enter", what, depth
            elif kind == "exit":
                if not stack or stack[-1][0] <= depth:
                    yield time, "exit-nothing", None, depth
                while stack and stack[-1][0] > depth:
                    yield time, "exit", stack.pop()[1], depth
            elif kind == "snap":
                stack = []
                yield time, "snap", what, depth
            elif kind == "open":
                stack.insert(0, (depth, what))
            elif kind == "gap":
                yield time, "gap", what, depth


def main():
    rec = Recording(sys.argv[1])
    verbose = len(sys.argv) > 2
    for key in rec.keys():
        counts = collections.Counter()
        for time, kind, code, depth in rec.calls(key):
            counts[kind] += 1
            if verbose:
                name = (code.qualname or code.name) if isinstance(code, Code) else code
                print(time, kind, depth, name)
        print(key, dict(counts))
    for p in rec.procs:
        print("proc", p)
    for t in rec.threads:
        print("thread", t)
    print("codes", len(rec.codes), "problems", len(rec.problems))
    for problem in rec.problems[:20]:
        print(" ", problem)


if __name__ == "__main__":
    main()
