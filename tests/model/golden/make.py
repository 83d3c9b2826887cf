#!/usr/bin/env python3
"""Writes llama.json: a tiny random LLaMA with its logits, loss, gradients and greedy tokens, computed by PyTorch and transformers.

    pip install torch transformers && python3 make.py

All in float64, rotary angles and norms included (transformers takes those in float32, whatever the model's precision; here they are
replaced). The unchanged model must agree to float32's accuracy. Weights are multiples of 1/1024, so that they are the same numbers in every precision and short in the file.
"""
import json
import pathlib

import torch
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(20250101)
torch.set_num_threads(1)
SHAPE = dict(vocab_size=43, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             head_dim=6, max_position_embeddings=64, rms_norm_eps=1e-5, tie_word_embeddings=False, attention_bias=True, hidden_act="silu")
THETA = 500.0
config = LlamaConfig(**SHAPE, rope_theta=THETA, bos_token_id=None, eos_token_id=None, pad_token_id=None, attn_implementation="sdpa")
model = LlamaForCausalLM(config).double().eval()


class Rotary(torch.nn.Module):
    """cos and sin of position * theta^(-2j/c), both halves alike, in float64."""

    def forward(self, x, position_ids, *args, **kwargs):
        c = SHAPE["head_dim"]
        frequencies = THETA ** (-torch.arange(0, c, 2, dtype=torch.float64) / c)
        angles = position_ids[..., None].double() * frequencies
        angles = torch.cat([angles, angles], -1)
        return angles.cos(), angles.sin()


tensors = {}
with torch.no_grad():
    for name, tensor in model.named_parameters():
        scale, centre = (0.3, 1.0) if "norm" in name else (0.35, 0.0)
        tensor.copy_(((centre + scale * torch.randn_like(tensor)) * 1024).round() / 1024)
        tensors[name] = dict(shape=list(tensor.shape), over_1024=[int(x) for x in (tensor * 1024).flatten().tolist()])

plain = LlamaForCausalLM(config).double().eval()
plain.load_state_dict(model.state_dict())
model.model.rotary_emb = Rotary()
for module in model.modules():
    if type(module).__name__ == "LlamaRMSNorm":
        module.forward = lambda x, weight=module.weight: torch.nn.functional.rms_norm(x, weight.shape, weight, SHAPE["rms_norm_eps"])

tokens = torch.randint(0, SHAPE["vocab_size"], (2, 19))
out = model(tokens)
assert (plain(tokens).logits - out.logits).abs().max() < 1e-5
logprobs = out.logits[:, :-1].log_softmax(-1).gather(-1, tokens[:, 1:, None])[..., 0]
loss = -logprobs.mean()
loss.backward()
wanted = ["model.embed_tokens.weight", "model.layers.0.self_attn.k_proj.weight", "model.layers.0.self_attn.q_proj.bias",
          "model.layers.0.input_layernorm.weight", "model.layers.1.mlp.down_proj.weight", "model.norm.weight"]
parameters = dict(model.named_parameters())

greedy = tokens[:1, :5]
with torch.no_grad():
    for _ in range(24):
        greedy = torch.cat([greedy, model(greedy).logits[:, -1].argmax(-1, keepdim=True)], 1)
        top = model(greedy[:, :-1]).logits[0, -1].topk(2).values
        assert top[0] - top[1] > 1e-3, "a near tie would make the greedy tokens depend on rounding"

golden = dict(
    config={**SHAPE, "model_type": "llama", "architectures": ["LlamaForCausalLM"], "rope_theta": THETA},
    tensors=tensors,
    tokens=tokens.tolist(),
    logits=out.logits[0].flatten().tolist(),
    logprobs=logprobs.flatten().tolist(),
    loss=loss.item(),
    gradients={name: parameters[name].grad.flatten().tolist() for name in wanted},
    greedy=dict(prompt=greedy[0, :5].tolist(), tokens=greedy[0, 5:].tolist()),
)
path = pathlib.Path(__file__).with_name("llama.json")
path.write_text(json.dumps(golden, separators=(",", ":")).replace('},"', '},\n"').replace('],"', '],\n"') + "\n")
print(path.stat().st_size, "bytes, loss", loss.item(), "greedy", golden["greedy"])
