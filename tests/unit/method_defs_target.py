# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
"""The C functions that this interpreter has, as it knows them itself; 3.8 to 3.15. A line each: file,
record and function (less where the file is loaded, hexadecimal), flags, name, M (module) or T
(type), owner. Records that no file holds are left out."""
import ctypes
import importlib
import sys
import types

MODULES = ("_asyncio _bisect _blake2 _bz2 _contextvars _csv _ctypes _curses _datetime _decimal "
           "_elementtree _hashlib _heapq _json _lsprof _lzma _md5 _multibytecodec "
           "_multiprocessing _opcode _pickle _posixshmem _posixsubprocess _queue _random _sha1 _sha2 "
           "_sha256 _sha3 _socket _sqlite3 _ssl _statistics _struct _uuid _zoneinfo _zstd array "
           "audioop binascii cmath fcntl grp math mmap parser pyexpat readline resource select "
           "spwd syslog termios unicodedata zlib").split()
# object headers and PyCFunctionObject, PyDescrObject: methodobject.h, descrobject.h
CFUNCTION_ML, DESCR_METHOD, TP_NAME = 16, 40, 24


class Where(ctypes.Structure):
    _fields_ = [("file", ctypes.c_char_p), ("base", ctypes.c_void_p), ("symbol", ctypes.c_char_p),
                ("address", ctypes.c_void_p)]


def dladdr_find():
    for library in (None, "libc.so.6", "libdl.so.2"):
        try:
            return ctypes.CDLL(library).dladdr
        except (AttributeError, OSError):
            pass
    raise SystemExit("no dladdr")


dladdr = dladdr_find()
dladdr.argtypes = [ctypes.c_void_p, ctypes.POINTER(Where)]


def word(address):
    return ctypes.c_uint64.from_address(address).value


def text(address):
    return ctypes.string_at(word(address)).decode()


def tell(record, kind, owner):
    where, code = Where(), Where()
    if not dladdr(record, where):
        return
    meth = word(record + 8)
    if not dladdr(meth, code):
        return
    same = code.base == where.base
    print("%s %x %x %d %s %s %s" % (where.file.decode(), record - where.base,
                                    meth - code.base if same else 0, word(record + 16) & 0xffffffff,
                                    text(record), kind, owner))


def all_types():
    seen, todo = {object}, [object]
    while todo:
        for sub in type.__subclasses__(todo.pop()):
            if sub not in seen:
                seen.add(sub)
                todo.append(sub)
    return seen


def main():
    for name in MODULES + list(sys.builtin_module_names):
        try:
            importlib.import_module(name)
        except ImportError:
            pass
    for module in list(sys.modules.values()):
        for value in list(getattr(module, "__dict__", {}).values()):
            if type(value) is types.BuiltinFunctionType and \
                    isinstance(value.__self__, types.ModuleType):
                tell(word(id(value) + CFUNCTION_ML), "M", value.__module__)
    descriptors = (types.MethodDescriptorType, types.ClassMethodDescriptorType)
    for cls in all_types():
        for value in list(vars(cls).values()):
            if type(value) in descriptors:
                tell(word(id(value) + DESCR_METHOD), "T", text(id(value.__objclass__) + TP_NAME))


main()
