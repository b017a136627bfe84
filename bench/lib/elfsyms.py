# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""Copies an ELF file and adds one function symbol per address behind its end, leaving every byte
that is loaded as it is.

bpftrace (0.17, as Debian builds it) attaches to the start of named functions only; with such a copy
it can be pointed at the very instructions that pytrace-bpf probes. Both tracers are then measured
on a process that runs the copy."""
import struct

EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
SHDR = struct.Struct("<IIQQQQIIQQ")
SYM = struct.Struct("<IBBHQQ")
SHT_SYMTAB, SHT_STRTAB = 2, 3
STB_GLOBAL_FUNC = 1 << 4 | 2
SYMBOL_BYTES = 16  # bpftrace refuses a probe outside of the symbol, so its size must not be 0


def symbol_name(index):
    return "pt_site_%d" % index


def _section_of(sections, address):
    for index, header in enumerate(sections):
        start, size = header[3], header[5]
        if header[1] != 0 and start <= address < start + size:
            return index
    raise ValueError("address %#x lies in no section" % address)


def copy_with_symbols(source, destination, addresses):
    with open(source, "rb") as file:
        data = bytearray(file.read())
    head = list(EHDR.unpack_from(data))
    if head[0][:6] != b"\x7fELF\x02\x01":
        raise ValueError("%s: not a little-endian ELF64 file" % source)
    table, entry_size, count = head[6], head[11], head[12]
    sections = [SHDR.unpack_from(data, table + i * entry_size) for i in range(count)]
    names, symbols = bytearray(b"\0"), bytearray(SYM.pack(0, 0, 0, 0, 0, 0))
    for index, address in enumerate(addresses):
        symbols += SYM.pack(len(names), STB_GLOBAL_FUNC, 0, _section_of(sections, address),
                            address, SYMBOL_BYTES)
        names += symbol_name(index).encode() + b"\0"
    data += b"\0" * (-len(data) % 8)
    symbols_at = len(data)
    data += symbols
    names_at = len(data)
    data += names
    data += b"\0" * (-len(data) % 8)
    sections.append((0, SHT_SYMTAB, 0, 0, symbols_at, len(symbols), count + 1, 1, 8, SYM.size))
    sections.append((0, SHT_STRTAB, 0, 0, names_at, len(names), 0, 0, 1, 0))
    head[6], head[11], head[12] = len(data), SHDR.size, count + 2
    for header in sections:
        data += SHDR.pack(*header)
    EHDR.pack_into(data, 0, *head)
    with open(destination, "wb") as file:
        file.write(data)
