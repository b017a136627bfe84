#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Writes user/cuda/table_data.c: what the CUDA runtime, driver and NCCL functions are called and what
arguments they take, from the headers of a CUDA toolkit (13.0 with NCCL 2.28 was used), of one of
CUDA 12 and of one of CUDA 11 (12.4 and 11.8: nvidia-cuda-dev and libcupti-dev of Debian 13 and 12,
non-free) by clang's AST; with --libs user/cuda/table_libs.c: the same of cuBLAS, cuBLASLt and cuDNN
(13.1 and 9 were used).

    scripts/gen-cuda-table.py --include /usr/local/cuda/include --include12 CUDA12/usr/include \
        --include11 CUDA11/usr/include > user/cuda/table_data.c
    scripts/gen-cuda-table.py --libs > user/cuda/table_libs.c

Only facts come out: names, types, numbers. What is otherwise in CUDA 12, be it the number, becomes a
row for 12. What 12.4 did not have yet, or no longer, stands in generated_cudart_removed_meta.h of
13's toolkit, with its last arguments before 13. What is otherwise in CUDA 11, but for the arguments'
names, or no longer there in 12, becomes a row for 11.
"""
import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HEADERS = """#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>
#include <cuda_runtime_api.h>
#include <cuda_profiler_api.h>
#include <cudaProfiler.h>
#include <nccl.h>
"""
LIB_HEADERS = """#include <cublas_v2.h>
#include <cublasLt.h>
#include <cudnn.h>
"""
RESULTS = r".*cudaError|CUresult|ncclResult_t|cublasStatus_t|cudnnStatus_t"
# Enums of table_libs.c have numbers from here on; see pt_cuda_enum()
LIB_ENUMS = 1000
GROUP_HEADERS = ["cuda.h", "cuda_runtime_api.h", "cuda_profiler_api.h", "cudaProfiler.h"]
# Sizes in bytes by their names, where the type alone does not tell
BYTES = {"count", "size", "bytes", "pitch", "dpitch", "spitch", "width", "sharedMem", "bytesize",
         "ByteCount", "sharedMemBytes", "sizeBytes", "dynamicSMemSize", "SharedMemBytes", "free",
         "total", "pPitch", "pbytes", "psize", "WidthInBytes", "dynamicSmemSize", "sizeInBytes",
         "ElementSizeBytes", "srcPitch", "dstPitch", "blockSizeLimitBytes", "numbytes",
         "hostSize", "numBytes", "hostBytes", "sizeOut"}
# Arrays and the like: pointers that no single value is returned through
NO_OUT = {"args", "kernelParams", "extra", "pFrom", "from", "to", "options", "optionValues",
          "handles", "values", "device_arr", "data", "dataSizes", "attributes", "value_", "pHandles",
          "excludeRanksList"}
KERNELS = {"func", "f", "entry", "function", "hfunc", "kernel"}
CONFIGS = {"cudaLaunchConfig_(t|st)": "C", "CUlaunchConfig(_st)?": "D", "cudaMemcpy3DParms": "M"}
# What memory is allocated by; they are read, so only where the pointer is to a constant
SHAPES = {"cudaChannelFormatDesc": "F", "CUDA_ARRAY_DESCRIPTOR(_st|_v2)?": "A",
          "CUDA_ARRAY3D_DESCRIPTOR(_st|_v2)?": "B", "CUmemAllocationProp(_st|_v1)?": "L"}


def clang_ast(clang, include, text):
    with tempfile.NamedTemporaryFile("w", suffix=".c") as source:
        source.write(text)
        source.flush()
        out = subprocess.run([clang, "-fsyntax-only", "-ferror-limit=0", "-Xclang",
                              "-ast-dump=json", "-I", include, source.name],
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return json.loads(out.stdout)["inner"]


def sizes_of(clang, include, types, headers):
    """The sizes of types, from an array of each that clang lays out."""
    # NCCL's structs have no name of their own
    plain = [re.sub("^struct (?=nccl)", "", t) for t in types]
    text = headers + "".join(f"char size_{i}[sizeof({t})];\n" for i, t in enumerate(plain))
    sizes = {}
    for node in clang_ast(clang, include, text):
        found = re.fullmatch(r"size_(\d+)", node.get("name", ""))
        if found and node["kind"] == "VarDecl":
            sizes[types[int(found.group(1))]] = int(
                re.search(r"\[(\d+)\]", node["type"]["qualType"]).group(1))
    return sizes


class Types:
    """Resolves typedefs, and knows the enums."""

    def __init__(self, nodes):
        self.typedefs = {}
        self.enums = {}
        by_id = {}
        for node in nodes:
            if node["kind"] == "EnumDecl":
                by_id[node["id"]] = self.enum(node)
            elif node["kind"] == "TypedefDecl":
                self.typedefs[node["name"]] = node["type"]["qualType"]
                # NCCL's enums have no name of their own
                owned = [t["ownedTagDecl"]["id"] for t in node.get("inner", [])
                         if "ownedTagDecl" in t]
                if owned and owned[0] in by_id:
                    self.enums.setdefault(node["name"], by_id[owned[0]])

    def enum(self, node):
        value, values = -1, []
        for item in node.get("inner", []):
            if item["kind"] != "EnumConstantDecl":
                continue
            value += 1
            for expression in item.get("inner", []):
                if "value" in expression:
                    value = int(expression["value"])
            values.append((value, item["name"]))
        if node.get("name"):
            self.enums[node["name"]] = values
        return values

    def plain(self, text):
        """A type with its typedefs followed, as far as they matter."""
        text = re.sub(r"\b(const|restrict|volatile)\b", "", text).strip()
        text = re.sub(r"\s+", " ", text)
        while text in self.typedefs and text not in ("size_t", "CUdeviceptr", "dim3"):
            text = re.sub(r"\bconst\b", "", self.typedefs[text]).strip()
        return text


class Coder:
    """One argument as NAME:CODE; the codes are explained in user/cuda/table.h."""

    def __init__(self, types, first_enum=0):
        self.types = types
        self.first_enum = first_enum
        self.sizes = {}
        self.used_enums = []
        self.missing = set()
        self.bytes = BYTES
        self.function = ""

    def enum_code(self, name):
        if name not in self.used_enums:
            self.used_enums.append(name)
        return f"e{self.first_enum + self.used_enums.index(name)}"

    def value(self, name, text, plain):
        if "*" in plain or "(" in plain:
            return "k" if name in KERNELS and "(" not in plain else "p"
        if plain.startswith("enum "):
            return self.enum_code(plain[5:])
        if text.replace("const ", "").startswith("CUdeviceptr"):
            return "p"
        if plain == "size_t":
            return "b" if name in self.bytes else "n"
        if plain in ("unsigned int", "cuuint32_t"):
            return "c" if name in self.bytes - {"count", "size"} else "u"
        if plain in ("int",):
            return "i"
        if plain in ("unsigned long long", "unsigned long", "cuuint64_t"):
            return "b" if name in self.bytes else "n"
        if plain in ("long long", "long"):
            return "l"
        if plain in ("float", "double"):
            return "f"
        if plain in ("unsigned char", "unsigned short", "char", "short"):
            return "u"
        if plain in ("dim3", "struct dim3"):
            return "d"
        if plain not in self.sizes:
            self.missing.add(plain)
            return "s0"
        return f"s{self.sizes[plain]}"

    def out(self, name, text):
        """The code of what a pointer gives back, or None."""
        if "const" in text or not text.endswith("*") or name in NO_OUT:
            return None
        if name.endswith("s") and name not in BYTES | {"flags", "pFlags", "ms", "status",
                                                       "pCaptureStatus", "captureStatus_out",
                                                       "driverStatus"}:
            return None
        target = text[:-1].strip()
        plain = self.types.plain(target)
        if plain == "struct cudaPitchedPtr":
            return "op"  # the pointer is its first member
        if plain in ("void", "char", "unsigned char") or plain.endswith(")"):
            return None
        if plain.startswith("struct ") and "*" not in plain:
            return None
        code = self.value(name, target, plain)
        if code == "f":
            return "of" if plain == "float" else None
        return "o" + code.replace("k", "p") if code[0] in "peibnculk" else None

    def argument(self, name, text):
        plain = self.types.plain(text)
        pointee = self.types.plain(text[:-1]) if text.endswith("*") else ""
        for struct, code in {**CONFIGS, **(SHAPES if "const" in text else {})}.items():
            if re.fullmatch(rf"(struct )?{struct}", pointee):
                return f"{name}:{code}"
        return f"{name}:{self.out(name, text) or self.value(name, text, plain)}"


class LibCoder(Coder):
    """cuBLAS takes most pointers to numbers to memory of the device, which cannot be read; what its
    functions and cuDNN's give back to the host is asked of some that say so, or created."""

    def out(self, name, text):
        if not re.match(r"(cublas(Lt)?|cudnn)([A-Z]\w*)?(Get|Create)", self.function) or \
                re.search(r"(A|Array)$", name):
            return None
        code = super().out(name, text)
        return None if code == "of" else code

    def value(self, name, text, plain):
        code = super().value(name, text, plain)
        return "b" if code == "n" and name.endswith("InBytes") else code


def functions(nodes, coder, pattern):
    rows = {}
    for node in nodes:
        name = node.get("name", "")
        if node["kind"] != "FunctionDecl" or not re.match(pattern, name) or node.get("isInvalid"):
            continue
        if node.get("storageClass") == "static" or not re.match(RESULTS, node["type"]["qualType"]):
            continue
        coder.function = name
        params = [p for p in node.get("inner", []) if p["kind"] == "ParmVarDecl"]
        rows[name] = " ".join(
            coder.argument(p.get("name", f"arg{i}"), p["type"]["qualType"])
            for i, p in enumerate(params))
    return rows


def removed(path, before, types_text=HEADERS):
    """Prototypes of what versions before this one had otherwise, from the structs of their
    arguments."""
    text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S)
    best = {}
    for body, name, version in re.findall(
            r"typedef struct \w+ \{(.*?)\} (\w+)_v(\d+)_params;", text, flags=re.S):
        if int(version) < before and int(version) > best.get(name, (0, ""))[0]:
            body = re.sub(r"__d(v|parm\(\w*\))", "", body)
            fields = [" ".join(f.split()) for f in body.split(";") if f.strip()]
            best[name] = (int(version), ", ".join(fields))
    return types_text + "".join(f"enum cudaError pt12_{name}({args});\n"
                                for name, (_, args) in best.items())


def groups(include):
    found = {}
    for header in GROUP_HEADERS:
        group, nested = "", []
        for line in (Path(include) / header).read_text(errors="replace").splitlines():
            start = re.search(r"[\\@](?:defgroup|addtogroup) (\w+)", line)
            if start:
                nested.append(group)
                group = re.sub(r"^CUDA(RT)?_", "", start.group(1)).lower()
            elif "@}" in line or "\\}" in line:
                group = nested.pop() if nested else ""
            name = re.search(r"CUDA(?:RT)?API\s+(cu\w+)\s*\(", line)
            if name:
                found.setdefault(name.group(1), group)
    return found


def cbids(include, header, prefix):
    """The numbers that CUPTI gives the functions, by symbol."""
    found = {}
    for name, number in re.findall(rf"{prefix}_(\w+)\s*=\s*(\d+)",
                                   (Path(include) / header).read_text()):
        base = re.fullmatch(r"(\w+?)_v(\d{4,})", name)
        symbol = base.group(1) if base else name
        version = int(base.group(2)) if base else 0
        found.setdefault(symbol, []).append((version, int(number)))
    return {symbol: sorted(ids) for symbol, ids in found.items()}


def cbid_of(ids, symbol, oldest=False):
    numbers = [number for _, number in ids.get(symbol, [])]
    return numbers[0 if oldest else -1] if numbers else 0


def base_name(name):
    return re.sub(r"(_v\d+)?(_ptsz|_ptds)?$", "", name)


def later_name(name, known):
    """What CUDA 12 called the form that has the plain name since 13."""
    twin = re.search(r"(_ptsz|_ptds)?$", name).group(0)
    plain = name[:len(name) - len(twin)]
    version = 3 if plain + "_v2" in known else 2
    return f"{plain}_v{version}{twin}"


def prototypes(nodes, coder, sizes):
    """(runtime, driver) of these headers; sizes: of the types that are met."""
    for _ in range(2):  # the second time with the sizes of what the first one met
        runtime = functions(nodes, coder, r"cuda[A-Z]")
        driver = functions(nodes, coder, r"cu(?!da)[A-Z]")
        coder.sizes.update(sizes(sorted(coder.missing)))
    return runtime, driver


def collect_older(args, include, coder):
    """Of an older CUDA: {name: arguments}, with the numbers of enums that 13's have."""
    text = HEADERS.replace("#include <nccl.h>\n", "")
    nodes = clang_ast(args.clang, include, text)
    own = Coder(Types(nodes))
    own.used_enums = coder.used_enums
    runtime, driver = prototypes(nodes, own,
                                 lambda types: sizes_of(args.clang, include, types, text))
    for name, values in own.types.enums.items():
        coder.types.enums.setdefault(name, values)
    return runtime, driver


def collect_removed(args, coder, before):
    path = Path(args.include) / "generated_cudart_removed_meta.h"
    nodes = clang_ast(args.clang, args.include, removed(path, before))
    return {n[5:]: a for n, a in functions(nodes, coder, r"pt12_cuda").items()}


def collect(args):
    nodes = clang_ast(args.clang, args.include, HEADERS)
    coder = Coder(Types(nodes))

    def sizes(types):
        return sizes_of(args.clang, args.include, types, HEADERS + LIB_HEADERS)
    runtime, driver = prototypes(nodes, coder, sizes)
    coder.bytes = BYTES - {"count"}  # NCCL counts elements
    for _ in range(2):
        nccl = functions(nodes, coder, r"nccl[A-Z]")
        coder.sizes.update(sizes(sorted(coder.missing)))
    coder.bytes = BYTES
    return coder, runtime, driver, nccl


def c_string(text):
    return json.dumps(text)


def emit_enums(coder, prefix, named):
    """The enums that rows refer to, and those that have a name of their own: named."""
    names = list(dict.fromkeys(coder.used_enums + [name for _, name in named]))
    for i, name in enumerate(names):
        print(f"static const struct pt_cuda_name enum_{i}[] = {{")
        seen = set()
        for value, text in coder.types.enums.get(name, []):
            if value not in seen:
                print(f"\t{{{value}, {c_string(text)}}},")
            seen.add(value)
        print("\t{0, NULL},\n};")
    print(f"const struct pt_cuda_name *const {prefix}_enums[] = {{")
    for i in range(len(coder.used_enums)):
        print(f"\tenum_{i},")
    print("\tNULL,\n};")
    for what, name in named:
        print(f"const struct pt_cuda_name *const pt_cuda_{what} = enum_{names.index(name)};")


def emit_head(what, with_option):
    print("// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause\n/* clang-format off */\n"
          f"/* Made by scripts/gen-cuda-table.py{with_option} from the headers of {what}; do not "
          "edit. */\n#include \"cuda/table.h\"\n\n#include <stddef.h>\n")


def emit_rows(prefix, rows):
    print(f"const struct pt_cuda_row {prefix}_rows[] = {{ /* sorted by symbol */")
    for row in sorted(rows):
        emit_row(*row)
    print(f"}};\nconst size_t {prefix}_row_count = sizeof({prefix}_rows) / "
          f"sizeof({prefix}_rows[0]);")


def emit_row(symbol, major, api, group, cbid, arguments):
    print(f"\t{{PT_CUDA_{api}, {major}, {cbid}, {c_string(symbol)}, {c_string(group)}, "
          f"{c_string(arguments)}}},")


def codes(arguments):
    return [argument.split(":")[1] for argument in arguments.split()]


def rows_11(rows, oldest):
    """Of what CUDA 11 has otherwise than those who follow; oldest: its arguments, numbers, groups."""
    found = []
    for name, arguments in oldest["args"].items():
        cbid = cbid_of(oldest["ids"], name)
        later = min((row for row in rows if row[0] == name), key=lambda row: row[1] or 99,
                    default=None)
        if later and codes(later[5]) == codes(arguments) and cbid in (0, later[4]):
            continue
        group = oldest["groups"].get(name) or oldest["groups"].get(base_name(name), "")
        found.append((name, 11, "RUNTIME", group, cbid, arguments))
    return found


def runtime_rows(new, old, until_12):
    """new, old: of 13 and 12, each with arguments, numbers and groups; until_12: arguments of what
    was replaced or removed."""
    def category(version, name):
        return version["groups"].get(name) or version["groups"].get(base_name(name), "")

    def row(version, major, name, arguments, oldest=False):
        return (name, major, "RUNTIME", category(new, name) or category(old, name),
                cbid_of(version["ids"], name, oldest), arguments)
    rows = []
    numbers_12 = {number for ids in old["ids"].values() for _, number in ids}
    for name, arguments in new["args"].items():
        at_13 = row(new, 0, name, arguments)
        at_12 = row(old, 0, name, old["args"][name]) if name in old["args"] else None
        if not at_12 and name in until_12:
            at_12 = row(new, 0, name, until_12[name], oldest=True)
        if not at_12 or (at_12[5] == at_13[5] and at_12[4] in (0, at_13[4])):
            rows.append(at_13)
            continue
        rows += [at_13[:1] + (13,) + at_13[2:], at_12[:1] + (12,) + at_12[2:]]
        if at_13[4] not in numbers_12:  # a 12 later than 12.4 may have it
            rows.append((later_name(name, until_12), 12) + at_13[2:])
    named = {name for name, *_ in rows}
    rows += [row(old, 12, name, arguments) for name, arguments in old["args"].items()
             if name not in named]
    named |= set(old["args"])
    rows += [row(new, 12, name, arguments, oldest=True) for name, arguments in until_12.items()
             if name not in named]
    return rows


def driver_rows(driver, older, ids, group):
    """The driver has a new name for each form, so that one row will do."""
    for name, arguments in older:
        assert codes(driver[name]) == codes(arguments), name
    return [(name, 0, "DRIVER", group.get(name) or group.get(base_name(name), ""),
             cbid_of(ids, name), arguments) for name, arguments in driver.items()]


def write_libs(args):
    nodes = clang_ast(args.clang, args.include, LIB_HEADERS)
    coder = LibCoder(Types(nodes), LIB_ENUMS)
    coder.bytes = set()
    for _ in range(2):  # the second time with the sizes of what the first one met
        cublas = functions(nodes, coder, r"cublas[A-Z]")
        cudnn = functions(nodes, coder, r"cudnn[A-Z]")
        coder.sizes.update(sizes_of(args.clang, args.include, sorted(coder.missing),
                                    HEADERS + LIB_HEADERS))
    emit_head("cuBLAS 13.1 and cuDNN 9", " --libs")
    emit_enums(coder, "pt_cuda_lib", [("cublas_errors", "cublasStatus_t"),
                                      ("cudnn_errors", "cudnnStatus_t")])
    emit_rows("pt_cuda_lib", [(name, 0, "CUBLAS", "", 0, a) for name, a in cublas.items()] +
              [(name, 0, "CUDNN", "", 0, a) for name, a in cudnn.items()])
    print(f"gen-cuda-table.py: {len(cublas)} functions of cuBLAS, {len(cudnn)} of cuDNN",
          file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--include", default="/usr/local/cuda/include")
    parser.add_argument("--include12", metavar="DIR", help="the headers of CUDA 12")
    parser.add_argument("--include11", metavar="DIR", help="the headers of CUDA 11")
    parser.add_argument("--clang", default="clang-19")
    parser.add_argument("--libs", action="store_true", help="cuBLAS and cuDNN")
    args = parser.parse_args()
    if args.libs:
        write_libs(args)
        return
    if not args.include12 or not args.include11:
        parser.error("--include12 and --include11 are needed")
    coder, runtime, driver, nccl = collect(args)
    runtime_12, driver_12 = collect_older(args, args.include12, coder)
    until_12 = collect_removed(args, coder, 13000)
    runtime_11, driver_11 = collect_older(args, args.include11, coder)
    group = groups(args.include)

    def ids(include, what):
        return cbids(include, f"cupti_{what}_cbid.h", f"CUPTI_{what.upper()}_TRACE_CBID")

    def version(include, arguments):
        return {"args": arguments, "ids": ids(include, "runtime"), "groups": groups(include)}
    rows = runtime_rows(version(args.include, runtime), version(args.include12, runtime_12),
                        until_12)
    rows += rows_11(rows, version(args.include11, runtime_11))
    rows += driver_rows(driver, [*driver_12.items(), *driver_11.items()],
                        ids(args.include, "driver"), group)
    rows += [(name, 0, "NCCL", "", 0, arguments) for name, arguments in nccl.items()]
    emit_head("CUDA 13.0, 12.4 and 11.8, and NCCL 2.28", "")
    emit_enums(coder, "pt_cuda", [
        ("runtime_errors", "cudaError"), ("driver_errors", "cudaError_enum"),
        ("nccl_errors", "ncclResult_t"), ("nccl_types", "ncclDataType_t"),
        ("memcpy_kinds", "cudaMemcpyKind")])
    emit_rows("pt_cuda", rows)
    print(f"gen-cuda-table.py: {len(runtime)} runtime and {len(driver)} driver functions, "
          f"{len(runtime_12)} and {len(driver_12)} of CUDA 12, {len(runtime_11)} and "
          f"{len(driver_11)} of CUDA 11, {len(nccl)} of NCCL",
          file=sys.stderr)


if __name__ == "__main__":
    main()
