#!/usr/bin/env python3
"""Writes the same rows as Parquet, in the ways that common writers do, and as JSONL, for the reader of data files.

    python3 -m venv venv && venv/bin/pip install pyarrow==26.0.1
    venv/bin/python make.py

rows.jsonl          the rows; columns that are null in a row are written as null
CODEC.parquet       the rows, two to a row group, dictionaries and pages as pyarrow has them by default
plain.parquet       the rows without compression and dictionaries, pages of version 2
"""
import json
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

HERE = pathlib.Path(__file__).parent
MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string()), ("name", pa.string())])
SCHEMA = pa.schema([
    ("id", pa.int64()),
    ("title", pa.large_string()),
    ("messages", pa.list_(MESSAGE)),
    ("info", pa.struct([("subreddit", pa.string()), ("tags", pa.list_(pa.string()))])),
    ("weight", pa.float32()),
    ("score", pa.float64()),
    ("small", pa.uint8()),
    ("good", pa.bool_()),
    ("nested", pa.list_(pa.list_(pa.int32()))),
])


def message(role, content, name=None):
    return {"role": role, "content": content, "name": name}


ROWS = [
    dict(id=1, title="no snacks\n\"left\"", messages=[message("user", "why ?"), message("assistant", " they were eaten 🎉", "al")],
         info={"subreddit": "tifu", "tags": ["a", "b"]}, weight=0.1, score=0.1, small=255, good=True, nested=[[1, 2], [], [3]]),
    dict(id=-2, title="", messages=[], info={"subreddit": None, "tags": []}, weight=None, score=None, small=None, good=False, nested=[]),
    dict(id=9007199254740993, title=None, messages=None, info=None, weight=-2.5, score=1e300, small=0, good=None, nested=None),
    dict(id=4, title="é", messages=[message("assistant", "")], info={"subreddit": "r", "tags": None}, weight=16777216.0, score=-0.5,
         small=7, good=True, nested=[[-1]]),
    dict(id=5, title="last", messages=[message("user", None)], info={"subreddit": "r", "tags": ["ü"]}, weight=1e-7, score=3.0, small=1,
         good=True, nested=[[], [5]]),
]

table = pa.Table.from_pylist(ROWS, schema=SCHEMA)
for codec in ["snappy", "gzip", "zstd", "lz4"]:
    pq.write_table(table, HERE / f"{codec}.parquet", compression=codec, row_group_size=2)
pq.write_table(table, HERE / "plain.parquet", compression="none", use_dictionary=False, data_page_version="2.0")
(HERE / "rows.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS), encoding="utf-8")
