"""Writes a checkpoint of a paper's shape with random weights, in shards of 5 GB at most: to measure loading, scoring and saving.

    python large.py llama-7b|opt-6.7b LAYERS FOLDER

Needs numpy. Weights are bfloat16, normally distributed with the deviation of a fresh model, norms near 1, biases near 0."""

import json
import pathlib
import struct
import sys

import numpy

SHARD = 5_000_000_000


def llama(layers):
    width, inner, vocabulary = 4096, 11008, 32000
    config = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": vocabulary, "hidden_size": width,
        "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": 32, "num_key_value_heads": 32,
        "max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "hidden_act": "silu", "rope_theta": 10000.0,
        "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "bfloat16",
    }
    tensors = {"model.embed_tokens.weight": (vocabulary, width)}
    for at in range(layers):
        layer = f"model.layers.{at}."
        for name in "qkvo":
            tensors[f"{layer}self_attn.{name}_proj.weight"] = (width, width)
        for name, shape in [("gate", (inner, width)), ("up", (inner, width)), ("down", (width, inner))]:
            tensors[f"{layer}mlp.{name}_proj.weight"] = shape
        for name in ["input_layernorm", "post_attention_layernorm"]:
            tensors[f"{layer}{name}.weight"] = (width,)
    tensors |= {"model.norm.weight": (width,), "lm_head.weight": (vocabulary, width)}
    return config, tensors


def opt(layers):
    width, inner, vocabulary, context = 4096, 16384, 50272, 2048
    config = {
        "model_type": "opt", "architectures": ["OPTForCausalLM"], "vocab_size": vocabulary, "hidden_size": width, "ffn_dim": inner,
        "word_embed_proj_dim": width, "num_hidden_layers": layers, "num_attention_heads": 32, "max_position_embeddings": context,
        "activation_function": "relu", "do_layer_norm_before": True, "bos_token_id": 2, "eos_token_id": 2, "pad_token_id": 1,
        "torch_dtype": "bfloat16",
    }
    decoder = "model.decoder."
    tensors = {f"{decoder}embed_tokens.weight": (vocabulary, width), f"{decoder}embed_positions.weight": (context + 2, width)}
    for at in range(layers):
        layer = f"{decoder}layers.{at}."
        matrices = [(f"self_attn.{name}_proj", (width, width)) for name in ["q", "k", "v", "out"]]
        for name, shape in matrices + [("fc1", (inner, width)), ("fc2", (width, inner))]:
            tensors[f"{layer}{name}.weight"] = shape
            tensors[f"{layer}{name}.bias"] = shape[:1]
        for name in ["self_attn_layer_norm", "final_layer_norm"]:
            tensors[f"{layer}{name}.weight"] = tensors[f"{layer}{name}.bias"] = (width,)
    tensors |= {f"{decoder}final_layer_norm.{name}": (width,) for name in ["weight", "bias"]}
    return config, tensors


def bytes_of(name, shape, random):
    numbers = random.standard_normal(shape, dtype=numpy.float32)
    numbers *= 0.02
    if "norm" in name and name.endswith("weight"):
        numbers += 1
    return (numbers.view(numpy.uint32) >> 16).astype(numpy.uint16).tobytes()


def shards(tensors):
    parts, size = [[]], 0
    for name, shape in tensors.items():
        more = 2 * int(numpy.prod(shape))
        if size + more > SHARD:
            parts, size = parts + [[]], 0
        parts[-1].append(name)
        size += more
    return parts


def main(shape, layers, folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True)
    config, tensors = {"llama-7b": llama, "opt-6.7b": opt}[shape](int(layers))
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    parts, places, random = shards(tensors), {}, numpy.random.default_rng(0)
    for at, names in enumerate(parts):
        file = f"model-{at + 1:05}-of-{len(parts):05}.safetensors"
        header, offset = {}, 0
        for name in names:
            end = offset + 2 * int(numpy.prod(tensors[name]))
            header[name] = {"dtype": "BF16", "shape": list(tensors[name]), "data_offsets": [offset, end]}
            places[name], offset = file, end
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with open(folder / file, "wb") as out:
            out.write(struct.pack("<Q", len(text)) + text)
            for name in names:
                out.write(bytes_of(name, tensors[name], random))
    total = sum(2 * int(numpy.prod(shape)) for shape in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
    print(f"{total / 2e9:.2f} thousand million numbers in {len(parts)} shards")


main(*sys.argv[1:])
