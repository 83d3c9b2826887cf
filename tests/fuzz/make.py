#!/usr/bin/env python3
"""Writes the binary files of the corpus; the texts in it are written by hand.

    python3 -m venv venv && venv/bin/pip install pyarrow==26.0.1
    venv/bin/python make.py
"""
import gzip
import json
import pathlib
import struct

import pyarrow as pa
import pyarrow.parquet as pq

CORPUS = pathlib.Path(__file__).parent / "corpus"


def write(name, content):
    (CORPUS / name).write_bytes(content)


def text(word):
    """A text of a pickle."""
    return b"X" + struct.pack("<I", len(word)) + word.encode()


def storage(name, kind, length):
    """The persistent id of a storage."""
    parts = text("storage") + f"ctorch\n{kind}\n".encode() + text(name) + text("cpu")
    return b"((" + parts + b"K" + bytes([length]) + b"tQ"


def tensor(name, kind, length, offset, sizes, strides):
    """A tensor, as a view of a storage."""
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n"
    view = b"K" + bytes([offset]) + whole(sizes) + whole(strides)
    return rebuild + storage(name, kind, length) + view + b"\x89ccollections\nOrderedDict\n)RtR"


def whole(numbers):
    """A tuple of small numbers."""
    return b"(" + b"".join(b"K" + bytes([number]) for number in numbers) + b"t"


MATRIX = tensor("0", "FloatStorage", 8, 1, [2, 3], [3, 1])
ONE = b"\x80\x02}q\x00" + text("x") + MATRIX + b"s."
PARAMETER = (b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01(" + text("a") + b"q\x02"
             + b"ctorch._utils\n_rebuild_parameter\n" + MATRIX[:-2]
             + b"tR\x88ccollections\nOrderedDict\n)R\x87R" + text("b")
             + tensor("1", "HalfStorage", 4, 0, [4], [1]) + b"u.")
MEMO = (b"\x80\x02}(" + text("x") + MATRIX + b"r\x07\x00\x00\x00" + text("y")
        + b"j\x07\x00\x00\x00u.")
NUMBERS = struct.pack("<8f", *range(8))


def archive(entries):
    """A zip archive of stored entries."""
    body, directory = b"", b""
    for name, content in entries:
        sizes = struct.pack("<IIHH", len(content), len(content), len(name), 0)
        head = struct.pack("<HHHHHI", 10, 0, 0, 0, 0, 0) + sizes
        central = struct.pack("<HHHII", 0, 0, 0, 0, len(body))
        directory += b"PK\x01\x02" + struct.pack("<H", 10) + head + central + name.encode()
        body += b"PK\x03\x04" + head + name.encode() + content
    count = len(entries)
    end = struct.pack("<HHHHIIH", 0, 0, count, count, len(directory), len(body), 0)
    return body + directory + b"PK\x05\x06" + end


def tensors(header, content):
    """A safetensors file."""
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    return struct.pack("<Q", len(head)) + head + content


write("pickle/one", ONE)
write("pickle/parameter", PARAMETER)
write("pickle/memo", MEMO)
write("zip/plain", archive([("m/data.pkl", ONE), ("m/byteorder", b"little"),
                            ("m/data/0", NUMBERS)]))
write("zip/two", archive([("m/data.pkl", PARAMETER), ("m/data/0", NUMBERS),
                          ("m/data/1", NUMBERS[:8])]))
write("zip/empty", archive([]))
write("safetensors/float", tensors(
    {"__metadata__": {"format": "pt"},
     "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
     "b": {"dtype": "F32", "shape": [2], "data_offsets": [24, 32]}}, NUMBERS))
write("safetensors/half", tensors(
    {"a": {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]},
     "b": {"dtype": "F16", "shape": [2, 2], "data_offsets": [8, 16]},
     "c": {"dtype": "F32", "shape": [0, 3], "data_offsets": [16, 16]}}, b"\0\x3c" * 8))
write("safetensors/empty", tensors({}, b""))
write("table/packed", gzip.compress(b'{"a": "b", "c": 1}\n{"a": "d"}\n', mtime=0))


def parquet(name, schema, rows, **options):
    plain = {"compression": "none", "use_dictionary": False, "write_statistics": False,
             "store_schema": False, "column_encoding": None}
    table = pa.Table.from_pylist(rows, schema=pa.schema(schema))
    pq.write_table(table, CORPUS / "parquet" / name, **{**plain, **options})


parquet("texts", [("prompt", pa.string()), ("n", pa.int32())],
        [{"prompt": "a", "n": 1}, {"prompt": None, "n": -2}])
parquet("lists", [("messages", pa.list_(pa.struct([("role", pa.string())])))],
        [{"messages": [{"role": "user"}, {"role": "assistant"}]}, {"messages": []},
         {"messages": None}])
parquet("times", [("at", pa.timestamp("us")), ("cost", pa.decimal128(9, 2)), ("on", pa.date32())],
        [{"at": 1, "cost": None, "on": 3}])
parquet("snappy", [("good", pa.bool_()), ("x", pa.float64())],
        [{"good": True, "x": 0.5}, {"good": False, "x": 1e300}], compression="snappy",
        use_dictionary=True)
