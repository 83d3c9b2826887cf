#!/usr/bin/env python3
"""Writes tiny checkpoints of every model family, with what PyTorch and transformers compute for them in float64.

    python3 -m venv venv && venv/bin/pip install torch==2.15.0 transformers==5.23.0 safetensors==0.8.0 numpy==2.4.6
    venv/bin/python make.py [VARIANT...]

A folder per variant holds the checkpoint as `save_pretrained` lays it out (`config.json`, `model.safetensors` in float32), and
`golden.safetensors`, `golden.json` with the numbers of the batch in `golden.json`: sequences of different lengths, the first of them as
long as most of the models' context, each run on its own.

    decoders     logits [rows,v], logprobs (of each next token), grad.NAME of the mean negative log-likelihood of all next tokens;
                 the loss, greedily continued tokens, ten AdamW steps
    encoders     hidden [rows,d], mean_pooled [sequences,d]
    classifiers  logits [sequences,labels], grad.NAME of the mean cross-entropy of `labels`
    reward       logits [sequences,1], grad.NAME of the sum of -log sigmoid(score_a - score_b) over `pairs`

NAME is the tensor's name in model.safetensors. Some folders also hold `config-v4.json`: the same configuration as transformers 4 wrote it.

- Every tensor is random, norms and biases too, so that one left out or mistaken for another shows. Weights are multiples of 1/128 below 2:
  the same numbers in float32, float16 and bfloat16.
- transformers takes norms, softmax and rotary angles in float32, whatever the model's precision. Here these run in float64 like all else
  (`Double`); the unchanged float32 model that `from_pretrained` gives must agree to float32's accuracy.
- Left- and right-padded batches must give the same at real tokens.
- The same versions give the same bytes, for any choice of variants.
"""
import copy
import json
import pathlib
import sys
import zlib

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch.overrides import TorchFunctionMode

HERE = pathlib.Path(__file__).parent
VOCABULARY, CONTEXT, PAD = 37, 28, 1
GREEDY_PROMPT, GREEDY_NEW = 4, 24
LENGTHS = (CONTEXT, 6, 2)

# Sizes under the names that most families share.
SIZES = dict(vocab_size=VOCABULARY, hidden_size=16, intermediate_size=20, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=CONTEXT)
NO_IDS = dict(bos_token_id=None, eos_token_id=None, pad_token_id=None)
LLAMA = dict(SIZES, **NO_IDS, rms_norm_eps=1e-5)
OPT = dict(vocab_size=VOCABULARY, hidden_size=16, word_embed_proj_dim=16, ffn_dim=20, num_hidden_layers=2, num_attention_heads=2,
           max_position_embeddings=CONTEXT, bos_token_id=2, eos_token_id=2, pad_token_id=PAD)
NEOX = dict(SIZES, bos_token_id=0, eos_token_id=0, pad_token_id=None, layer_norm_eps=1e-5)
BERT = dict(SIZES, pad_token_id=0, type_vocab_size=2, layer_norm_eps=1e-12)
# Positions of RoBERTa start behind the pad id.
ROBERTA = dict(SIZES, max_position_embeddings=CONTEXT + PAD + 1, bos_token_id=0, eos_token_id=2, pad_token_id=PAD, type_vocab_size=1, layer_norm_eps=1e-5)
THREE = dict(num_labels=3)
ONE = dict(num_labels=1)


def rope(kind, theta=10000.0, **numbers):
    return dict(rope_parameters=dict(rope_type=kind, rope_theta=theta, **numbers))


# Variant -> (class, configuration, constructor's arguments). The purpose of a variant is its first
# difference from its family.
VARIANTS = {
    "opt": ("OPTForCausalLM", OPT, {}),
    "opt_350m": ("OPTForCausalLM", dict(OPT, do_layer_norm_before=False, word_embed_proj_dim=12), {}),
    "opt_reward": ("OPTForSequenceClassification", dict(OPT, do_layer_norm_before=False, word_embed_proj_dim=12, **ONE), {}),
    "gpt2": ("GPT2LMHeadModel", dict(vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=2, n_positions=CONTEXT, n_inner=20, bos_token_id=None, eos_token_id=None), {}),
    "gpt_neox": ("GPTNeoXForCausalLM", dict(NEOX, hidden_size=32, **rope("default", partial_rotary_factor=0.25)), {}),
    "gpt_neox_sequential": ("GPTNeoXForCausalLM", dict(NEOX, use_parallel_residual=False, **rope("default", 500.0, partial_rotary_factor=0.5)), {}),
    "llama": ("LlamaForCausalLM", dict(LLAMA, num_attention_heads=4, num_key_value_heads=2, head_dim=6, tie_word_embeddings=False), {}),
    "llama_biased": ("LlamaForCausalLM", dict(LLAMA, tie_word_embeddings=True, attention_bias=True, mlp_bias=True, **rope("default", 500.0)), {}),
    # Wavelengths 6.3, 29, 135, 628, ... of 6 pairs: above 64 they are stretched, below 16 kept, in between mixed.
    "llama_llama3": ("LlamaForCausalLM", dict(LLAMA, max_position_embeddings=128, head_dim=12, tie_word_embeddings=True, **rope(
        "llama3", factor=2.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)), {}),
    "llama_linear": ("LlamaForCausalLM", dict(LLAMA, tie_word_embeddings=True, **rope("linear", factor=2.0)), {}),
    # Within the context it was trained for a dynamically scaled model is a plain one.
    "llama_dynamic": ("LlamaForCausalLM", dict(LLAMA, tie_word_embeddings=True, **rope("dynamic", factor=2.0)), {}),
    "llama_reward": ("LlamaForSequenceClassification", dict(LLAMA, pad_token_id=PAD, num_key_value_heads=1, **ONE), {}),
    "mistral": ("MistralForCausalLM", dict(SIZES, **NO_IDS, num_attention_heads=4, num_key_value_heads=2, head_dim=6, rms_norm_eps=1e-5, sliding_window=5), {}),
    "qwen2": ("Qwen2ForCausalLM", dict(LLAMA, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True, **rope("default", 1e6)), {}),
    "qwen3": ("Qwen3ForCausalLM", dict(LLAMA, num_attention_heads=4, num_key_value_heads=2, head_dim=6, **rope("default", 1e6)), {}),
    "bert": ("BertModel", BERT, dict(add_pooling_layer=False)),
    "bert_pooler": ("BertModel", BERT, {}),
    "bert_classifier": ("BertForSequenceClassification", dict(BERT, **THREE), {}),
    "roberta": ("RobertaModel", ROBERTA, dict(add_pooling_layer=False)),
    "roberta_classifier": ("RobertaForSequenceClassification", dict(ROBERTA, **THREE), {}),
}


class Double(TorchFunctionMode):
    """Requests for float32 get float64."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        def wider(value):
            return torch.float64 if value is torch.float32 else value

        function = torch.Tensor.double if function is torch.Tensor.float else function
        return function(*map(wider, args), **{key: wider(value) for key, value in (kwargs or {}).items()})


class Case:
    """A variant: its model in float32 and float64, and its batch."""

    def __init__(self, name):
        self.name, self.folder = name, HERE / name
        self.architecture, settings, self.arguments = VARIANTS[name]
        self.model_class = getattr(transformers, self.architecture)
        self.config = self.model_class.config_class(**settings, attn_implementation="eager")
        self.decoder = self.architecture.endswith(("ForCausalLM", "LMHeadModel"))
        self.classifier = self.architecture.endswith("ForSequenceClassification")
        self.encoder = self.architecture.startswith(("Bert", "Roberta"))
        self.segments = getattr(self.config, "type_vocab_size", 0) > 1
        self.folder.mkdir(exist_ok=True)
        self.random = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        self.draw()
        # A model that repeats one token would hide what is wrong with how it continues.
        while self.decoder and len(set(self.greedy().tolist())) < 8:
            self.draw()

    def draw(self):
        self.write_checkpoint()
        self.single, report = self.model_class.from_pretrained(self.folder, attn_implementation="eager", output_loading_info=True, **self.arguments)
        assert not any(report.values()), report
        self.double = self.in_double(self.single.config)
        self.draw_batch()

    def write_checkpoint(self):
        torch.manual_seed(0)
        model = self.model_class(self.config, **self.arguments)
        with torch.no_grad():
            for name, tensor in model.named_parameters():
                is_norm = "norm" in name.lower() or ".ln_" in name
                centre = 1.0 if is_norm and name.endswith("weight") else 0.0
                draw = centre + 0.3 * torch.randn(tensor.shape, generator=self.random)
                tensor.copy_((draw * 128).round().clamp(-255, 255) / 128)
        model.save_pretrained(self.folder)

    def in_double(self, config):
        """A float64 model of `config` with the weights of the file."""
        config = copy.deepcopy(config)
        config._attn_implementation, config.dtype = "eager", torch.float64
        torch.set_default_dtype(torch.float64)
        with Double():
            model = self.model_class(config, **self.arguments)
        torch.set_default_dtype(torch.float32)
        model.load_state_dict(self.single.state_dict())
        assert not any(tensor.dtype == torch.float32 for tensor in [*model.parameters(), *model.buffers()])
        return model.eval()

    def stored_names(self):
        """The file's name of each parameter, by its content: transformers renames some tensors when it reads and writes."""
        stored = {tensor.numpy().tobytes(): name for name, tensor in load_file(self.folder / "model.safetensors").items()}
        names = {name: stored.pop(tensor.detach().numpy().tobytes()) for name, tensor in self.single.named_parameters()}
        assert not stored, stored
        return names

    def draw_batch(self):
        """No sequence holds the pad id: in some families it marks the end of the text."""
        pad = self.config.pad_token_id
        ids = torch.tensor([id for id in range(VOCABULARY) if id != pad])
        lengths = LENGTHS if self.name != "mistral" else (CONTEXT, 6, 5)
        self.sequences = [ids[torch.randint(len(ids), (length,), generator=self.random)] for length in lengths]
        # The second segment starts in the middle; the last sequence is all of the first.
        self.types = [(torch.arange(n) * 2 >= n).long() for n in lengths[:-1]] + [torch.zeros(lengths[-1]).long()]

    def run(self, model, tokens, mask=None, positions=None, types=None):
        """What `model` gives for `tokens [b,t]`."""
        inputs = dict(input_ids=tokens, attention_mask=mask)
        if self.decoder:
            inputs |= dict(use_cache=False)
        if positions is not None:
            start = PAD + 1 if "roberta" in self.name else 0
            inputs |= dict(position_ids=positions + start)
        if self.segments:
            inputs |= dict(token_type_ids=types)
        if model is self.single:
            out = model(**inputs)
        else:
            with Double():
                out = model(**inputs)
        return out.logits if self.decoder or self.classifier else out.last_hidden_state

    def alone(self, model):
        """Of each sequence on its own: `[t,v]`, `[t,d]` or, of a classifier, `[1,labels]`."""
        outputs = []
        for tokens, types in zip(self.sequences, self.types):
            out = self.run(model, tokens[None], types=types[None])
            outputs.append(out if self.classifier else out[0])
        return outputs

    @torch.no_grad()
    def check(self, outputs):
        """That float32 and padding on either side give the same."""
        scale = max(out.abs().max() for out in outputs)
        for single, double in zip(self.alone(self.single), outputs):
            assert (single - double).abs().max() <= 2e-5 * scale, (self.name, "float32", (single - double).abs().max(), scale)
        longest, pad = max(map(len, self.sequences)), self.config.pad_token_id
        # An encoder's class head reads the first position, for any token there.
        for left in (False, True) if not (self.encoder and self.classifier) else (False,):
            starts = [longest - len(tokens) if left else 0 for tokens in self.sequences]
            tokens, types = torch.full((len(starts), longest), 0 if pad is None else pad), torch.zeros(len(starts), longest).long()
            mask = torch.zeros_like(tokens)
            for row, start in enumerate(starts):
                real = slice(start, start + len(self.sequences[row]))
                tokens[row, real], types[row, real], mask[row, real] = self.sequences[row], self.types[row], 1
            padded = self.run(self.double, tokens, mask, (mask.cumsum(1) - 1).clamp(min=0), types)
            for row, (start, out) in enumerate(zip(starts, outputs)):
                real = padded[row:row + 1] if self.classifier else padded[row, start:start + len(out)]
                assert (real - out).abs().max() <= 1e-12 * scale, (self.name, "left" if left else "right", row, (real - out).abs().max())

    def logprobs(self, outputs):
        """Of each next token of each sequence, one behind the other."""
        return torch.cat([out[:-1].log_softmax(-1).gather(-1, tokens[1:, None])[:, 0] for out, tokens in zip(outputs, self.sequences)])

    def loss(self, outputs):
        if self.decoder:
            return -self.logprobs(outputs).mean()
        if self.config.num_labels == 1:
            return sum(-torch.nn.functional.logsigmoid(outputs[a] - outputs[b]).sum() for a, b in self.pairs())
        return torch.nn.functional.cross_entropy(torch.cat(outputs), torch.tensor(self.labels()))

    def gradients(self):
        """By the file's names; a tensor that nothing is computed from has none."""
        names = self.stored_names()
        gradients = {f"grad.{names[name]}": tensor.grad.clone() for name, tensor in self.double.named_parameters() if tensor.grad is not None}
        largest = max(gradient.abs().max() for gradient in gradients.values())
        for name, gradient in gradients.items():
            # What is added to all keys alike moves all scores of a query alike, which leaves softmax unchanged; what is added to all hidden
            # states alike moves both rewards of a pair alike. Of such gradients rounding is all that is left.
            nothing = name.endswith(("k_proj.bias", "key.bias")) and not hasattr(self.config, "rope_parameters")
            nothing |= self.name == "opt_reward" and name.endswith("layers.1.final_layer_norm.bias")
            assert (gradient.abs().max() < 1e-14 * largest) if nothing else (gradient.abs().max() > 1e-6 * largest), name
            if nothing:
                gradient.zero_()
        return gradients

    def pairs(self):
        return [[0, 1], [2, 1]]

    def labels(self):
        return [2, 0, 1]

    @torch.no_grad()
    def greedy(self):
        tokens = self.sequences[0][:GREEDY_PROMPT]
        for _ in range(GREEDY_NEW):
            logits = self.run(self.double, tokens[None])[0, -1]
            first, second = logits.topk(2).values
            assert first - second > 1e-6, (self.name, "a near tie would make the greedy tokens depend on rounding")
            tokens = torch.cat([tokens, logits.argmax()[None]])
        return tokens[GREEDY_PROMPT:]

    def steps(self):
        """The losses before each of ten steps of AdamW; this changes the float64 model."""
        parameters = list(self.double.parameters())
        groups = [dict(params=[p for p in parameters if p.ndim > 1], weight_decay=0.1), dict(params=[p for p in parameters if p.ndim < 2], weight_decay=0.0)]
        optimiser = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), eps=1e-8)
        losses = []
        for _ in range(10):
            optimiser.zero_grad()
            loss = self.loss(self.alone(self.double))
            loss.backward()
            losses.append(loss.item())
            optimiser.step()
        return losses

    def write(self):
        outputs = self.alone(self.double)
        self.check(outputs)
        # Versions are PyTorch's and transformers' own, without the build.
        golden = dict(versions=dict(torch=torch.__version__.split("+")[0], transformers=transformers.__version__),
                      tokens=[tokens.tolist() for tokens in self.sequences])
        if self.segments:
            golden |= dict(token_types=[types.tolist() for types in self.types])
        tensors = {}
        if self.decoder or self.classifier:
            loss = self.loss(outputs)
            loss.backward()
            tensors["logits"] = torch.cat(outputs).detach()
            # A tensor that nothing is computed from, like an unused pooler, has no gradient.
            tensors |= self.gradients()
            golden |= dict(loss=loss.item())
        else:
            tensors |= dict(hidden=torch.cat(outputs).detach(), mean_pooled=torch.stack([out.detach().mean(0) for out in outputs]))
        if self.decoder:
            tensors["logprobs"] = self.logprobs(outputs).detach()
            golden |= dict(greedy=dict(prompt=self.sequences[0][:GREEDY_PROMPT].tolist(), tokens=self.greedy().tolist()), adamw=self.steps())
            assert golden["adamw"][0] == golden["loss"] and golden["adamw"][-1] < golden["loss"]
        elif self.classifier:
            golden |= dict(pairs=self.pairs()) if self.config.num_labels == 1 else dict(labels=self.labels())
        save_file({name: tensors[name].contiguous() for name in sorted(tensors)}, self.folder / "golden.safetensors")
        (self.folder / "golden.json").write_text(json.dumps(golden).replace('], "', '],\n "').replace('}, "', '},\n "') + "\n")

    def write_config_v4(self):
        """The configuration with the keys of transformers 4, from which transformers 5 must make the same model."""
        config = json.loads((self.folder / "config.json").read_text())
        config["torch_dtype"] = config.pop("dtype")
        config["transformers_version"] = "4.44.2"
        rotary = config.pop("rope_parameters")
        theta, kind = rotary.pop("rope_theta"), rotary.pop("rope_type")
        if self.name == "gpt_neox":
            config |= dict(rotary_emb_base=int(theta), rotary_pct=rotary.pop("partial_rotary_factor"), rope_scaling=None)
        elif self.name == "qwen2":
            # A window that is switched off, as Qwen2's own files have it.
            config.pop("layer_types")
            config |= dict(rope_theta=theta, use_sliding_window=False, sliding_window=4, max_window_layers=1)
        else:
            config |= dict(rope_theta=theta, rope_scaling=dict(rotary, rope_type=kind))
        path = self.folder / "config-v4.json"
        path.write_text(json.dumps(dict(sorted(config.items())), indent=2) + "\n")
        with torch.no_grad():
            again = self.alone(self.in_double(self.model_class.config_class.from_json_file(path)))
            assert all(torch.equal(*pair) for pair in zip(again, self.alone(self.in_double(self.single.config))))


def main(names):
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for name in names or VARIANTS:
        case = Case(name)
        case.write()
        if name in ("gpt_neox", "qwen2", "llama_llama3"):
            case.write_config_v4()
        print(f"{name}: {sum(file.stat().st_size for file in case.folder.iterdir())} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
