"""Writes Tests/GraftDataTests/NpyFixtures.swift: arrays as numpy.save stores them, with what they hold.

npy_fixtures.py > Tests/GraftDataTests/NpyFixtures.swift"""
import base64, io
import numpy as np
from numpy.lib import format as npy

def encoded(array, version=None):
    file = io.BytesIO()
    npy.write_array(file, array, version=version, allow_pickle=True)
    return base64.b64encode(file.getvalue()).decode()

numbers = []
grid = np.arange(24).reshape(2, 3, 4)
for code in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"):
    values = grid - 7 if code[0] != "u" else grid
    values = (values / 4 if code[0] == "f" else values).astype("<" + code)
    numbers.append((code, values, None))
numbers.append(("b1", grid % 3 == 0, None))
numbers.append(("big endian f4", (grid / 8).astype(">f4"), None))
numbers.append(("big endian i2", (grid * 1000 - 9000).astype(">i2"), None))
numbers.append(("Fortran f8", np.asfortranarray(grid / 16), None))
numbers.append(("Fortran u1", np.asfortranarray(grid.astype("u1")), None))
numbers.append(("Fortran big endian u4", np.asfortranarray((grid * 70000).astype(">u4")), None))
numbers.append(("version 2", grid.astype("<f4"), (2, 0)))
numbers.append(("version 3", grid.astype("<f4"), (3, 0)))
numbers.append(("scalar", np.array(2.5), None))
numbers.append(("empty", np.zeros((0, 5), "<f4"), None))
numbers.append(("long row", np.arange(3.0, dtype="<f4"), None))
strings = [
    ("unicode", np.array(["train", "", "grün", "日本"])),
    ("big endian unicode", np.array([["a", "bc"], ["déf", "x"]]).astype(">U3")),
    ("Fortran unicode", np.asfortranarray(np.array([["a", "b", "c"], ["d", "e", "f"]]))),
    ("bytes", np.array([b"train", b"val", b""])),
]
refused = [("objects", np.array([{}, None], object)), ("complex", np.zeros(2, "c8")), ("records", np.zeros(2, [("a", "<f4"), ("b", "<i4")])),
           ("dates", np.zeros(2, "datetime64[s]")), ("long double", np.zeros(2, np.longdouble))]

print("// Written by Tools/reference/npy_fixtures.py: do not edit.\n// swift-format-ignore-file\n")
print("/// Files as numpy.save writes them, in base64, and what they hold (row-major).")
print("enum NpyFixtures {")
print("  static let numbers: [(name: String, file: String, shape: [Int], values: [Double])] = [")
for name, array, version in numbers:
    print(f'    ("{name}", "{encoded(array, version)}", {list(array.shape)}, {[float(v) for v in array.ravel()]}),')
print("  ]\n  static let strings: [(name: String, file: String, shape: [Int], values: [String])] = [")
for name, array in strings:
    values = ", ".join('"%s"' % (v.decode() if isinstance(v, bytes) else v) for v in array.ravel())
    print(f'    ("{name}", "{encoded(array)}", {list(array.shape)}, [{values}]),')
print("  ]\n  static let refused: [(name: String, file: String)] = [")
for name, array in refused:
    print(f'    ("{name}", "{encoded(array)}"),')
print("  ]\n}")
