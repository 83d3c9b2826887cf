#!/usr/bin/env python3
"""Writes files as PyTorch pickles tensors, for the reader of such files.

    python3 -m venv venv && venv/bin/pip install torch==2.15.0 safetensors==0.8.0 numpy==2.4.6
    venv/bin/python make.py

views.bin           tensors of several types that share storages, begin in their middle, are transposed, have gaps
views.safetensors   the same numbers in float32, contiguous; integers are left out
shard-N.bin         ../golden/gpt2 in float16 and bfloat16, as its first checkpoints were: without a prefix, with causal masks and, some of
                    them, with matrices on their other side; and their index
"""
import json
import pathlib

import torch
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).parent


def views():
    base = torch.arange(-40, 80, dtype=torch.float32) / 8
    square = base[:64].view(8, 8)
    shared = dict(
        whole=square,
        turned=square.t(),
        middle=square[2:5],
        columns=square[:, 1:7:2],
        rows=square[::3],
        corner=square[3:, 5:].t(),
        vector=base[100:],
        every_third=base[::3],
        diagonal=square.diagonal(),
        empty=base[:0],
        one=base[7:8],
    )
    # A row repeated without being copied: fewer numbers than its storage has.
    shared["repeated"] = base[8:16].expand(4, 8)
    alone = dict(
        half=(base[:24].view(4, 6)).half(),
        half_turned=(base[:24].view(4, 6)).half().t(),
        brain=(base[:24].view(6, 4) * 2.0**100).bfloat16(),
        parameter=torch.nn.Parameter(base[5:11].clone()),
        scalar=torch.tensor(0.5),
    )
    integers = dict(position_ids=torch.arange(5)[None], mask=torch.tril(torch.ones(3, 3, dtype=torch.uint8)), flags=torch.ones(2, dtype=torch.bool))
    torch.save({**shared, **alone, **integers}, HERE / "views.bin")
    tensors = {name: tensor.detach().float().contiguous().clone() for name, tensor in {**shared, **alone}.items() if tensor.ndim}
    save_file(tensors, HERE / "views.safetensors")


def shards():
    tensors = load_file(HERE.parent / "golden/gpt2/model.safetensors")
    names = sorted(tensors)
    shards = [{}, {}]
    for at, name in enumerate(names):
        tensor = tensors[name].half() if at % 3 else tensors[name].bfloat16()
        assert torch.equal(tensor.float(), tensors[name])
        if tensor.ndim == 2 and at % 2:
            tensor = tensor.t().contiguous().t()
        shards[at % 2][name.removeprefix("transformer.")] = tensor
    shards[1]["h.0.attn.bias"] = torch.ones(1, 1, 4, 4, dtype=torch.uint8).tril()
    shards[1]["h.0.attn.masked_bias"] = torch.tensor(-1e4)
    index = {}
    for number, shard in enumerate(shards, 1):
        # An ordered table with versions noted on it, as a module's own state is.
        state = torch.nn.Module().state_dict()
        state.update(shard)
        name = f"shard-{number}.bin"
        torch.save(state, HERE / name)
        index |= {key: name for key in shard}
    (HERE / "index.json").write_text(json.dumps(dict(metadata=dict(total_size=0), weight_map=index), indent=1) + "\n")


if __name__ == "__main__":
    views()
    shards()
