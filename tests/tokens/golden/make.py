#!/usr/bin/env python3
"""Writes tokenizers.json and chats.json: what transformers makes of small tokenizers and of chat templates.

    pip install transformers jinja2 && python3 make.py

tokenizers.json: repositories in several layouts that share a vocabulary of 400 tokens, the ids of texts and pairs in each, and their
special tokens. chats.json: templates in the styles that are about, written for this file, with what they render, its ids and which of
them the assistant wrote, or with what they refuse.
"""
import json
import pathlib
import tempfile

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer

HERE = pathlib.Path(__file__).parent
CORPUS = """The committee met on Tuesday and the committee agreed that nothing would change before the summer. I asked my brother
whether he had seen the letter; he hadn't. There's no reason to think that the bridge was closed, they're still working on it, and we'll
see. user assistant system What is the capital of France? Paris is the capital of France. Hello there! Hi, how are you? I am fine.
Summarise the post in one sentence, please. The post says that the author lost the keys and found them again in the car.
""" * 3
HEAD = ["<s>", "<pad>", "</s>", "<unk>"]
TAIL = ["<mask>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "[INST]", "[/INST]"]
SIZE = 390


def byte_level():
    """Vocabulary and merges: trained, with special tokens at either end."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=SIZE, special_tokens=HEAD, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([CORPUS], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    vocabulary = dict(sorted(model["vocab"].items(), key=lambda entry: entry[1]))
    for token in TAIL:
        vocabulary[token] = len(vocabulary)
    return vocabulary, [tuple(merge) for merge in model["merges"]]


def added(content, lstrip=False, normalized=False, special=None):
    token = {"__type": "AddedToken", "content": content, "lstrip": lstrip, "normalized": normalized, "rstrip": False, "single_word": False}
    if special is not None:
        del token["__type"]
        token["special"] = special
    return token


VOCABULARY, MERGES = byte_level()
SHARED = {
    "vocab.json": json.dumps(VOCABULARY, ensure_ascii=False, separators=(",", ":")),
    "merges.txt": "#version: 0.2\n" + "\n".join(" ".join(merge) for merge in MERGES) + "\n",
}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "committee", "met", "##ing", "cafe", "café", "caf", "##e", "##é", "i", "hadn", "'", "t", "T",
         "he", "He", "漢", "字", "!", ",", ".", "bridge", "was", "closed", "un", "##believ", "##able", "we", "##s", "s", "a", "##a", "b", "##b"]


def template_json():
    """A tokenizer.json that puts `<s>` before every text, and knows two of its special tokens."""
    tokenizer = Tokenizer(models.BPE(vocab=VOCABULARY, merges=MERGES))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 0)])
    tokenizer.add_special_tokens(["<s>", "</s>"])
    return tokenizer.to_str()


BYTES, BOTH = ["vocab.json", "merges.txt"], ["tokenizer.json"]
SHARED["tokenizer.json"] = template_json()
SHARED["vocab.txt"] = "\n".join(WORDS) + "\n"
REPOSITORIES = {
    "flags absent": (BYTES, {"tokenizer_config.json": {"tokenizer_class": "GPT2Tokenizer", "model_max_length": 64}}),
    "by model type": (BYTES, {"config.json": {"model_type": "gpt2"}}),
    "first token asked for": (BYTES, {"tokenizer_config.json": {
        "tokenizer_class": "GPT2Tokenizer", "add_bos_token": True, "add_prefix_space": False, "errors": "replace", "pad_token": "<pad>",
        "unk_token": added("</s>", normalized=True), "bos_token": added("</s>", normalized=True), "eos_token": added("</s>", normalized=True)},
        "special_tokens_map.json": {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>"}}),
    "both asked for, space before": (BYTES, {"tokenizer_config.json": {
        "tokenizer_class": "GPT2TokenizerFast", "add_bos_token": True, "add_eos_token": True, "add_prefix_space": True, "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}}),
    "always around": (BYTES, {"tokenizer_config.json": {"tokenizer_class": "RobertaTokenizer", "mask_token": added("<mask>", lstrip=True)}}),
    "always around, space before": (BYTES, {"tokenizer_config.json": {"tokenizer_class": "RobertaTokenizerFast", "add_prefix_space": True}}),
    "added tokens by id": (BYTES, {"tokenizer_config.json": {
        "tokenizer_class": "GPT2Tokenizer", "bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "unk_token": "<unk>",
        "added_tokens_decoder": {str(VOCABULARY["<|im_start|>"]): added("<|im_start|>", special=True), str(VOCABULARY["<|im_end|>"]): added("<|im_end|>", special=True),
                                 str(len(VOCABULARY)): added("<think>", special=False), str(len(VOCABULARY) + 1): added("<|extra|>", special=True)},
        "additional_special_tokens": ["<|extra|>"]}}),
    "added tokens by file": (BYTES, {"tokenizer_config.json": {"tokenizer_class": "GPT2Tokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "[PAD]"},
                                     "added_tokens.json": {"[PAD]": len(VOCABULARY), "word": len(VOCABULARY) + 1}}),
    "tokenizer.json": (BOTH, {"tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<|endoftext|>",
                                                       "additional_special_tokens": ["[INST]", "[/INST]"]}}),
    "tokenizer.json against a flag": (BOTH, {"tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "add_bos_token": False}}),
    "words": (["vocab.txt"], {"tokenizer_config.json": {"tokenizer_class": "BertTokenizer"}}),
    "words with case": (["vocab.txt"], {"tokenizer_config.json": {"tokenizer_class": "BertTokenizerFast", "do_lower_case": False, "strip_accents": False, "tokenize_chinese_chars": False}}),
}
TEXTS = ["The committee met on Tuesday.", " He hadn't; they're  still\n\nworking\ton it!", "", "café 漢字 🎉 naïve", "a </s>b <|endoftext|><s> c", "x <mask> y <pad>",
         "He met the committee, unbelievably: café!", "[CLS] the bridge [MASK] was closed", "<think>[INST]word[/INST]<|extra|> words <|im_end|>", "[PAD] the bridge was closed 12 times..."]
PAIRS = [["The bridge was closed.", "He met the committee."], [" a", "b </s>"], ["", "the"]]


def write(folder, files):
    for name, content in files.items():
        (pathlib.Path(folder) / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def tokenizers():
    cases = []
    for name, (shared, files) in REPOSITORIES.items():
        with tempfile.TemporaryDirectory() as folder:
            write(folder, {**{file: SHARED[file] for file in shared}, **files})
            tokenizer = AutoTokenizer.from_pretrained(folder)
            texts = [dict(text=text, plain=tokenizer(text, add_special_tokens=False).input_ids, whole=tokenizer(text).input_ids,
                          decoded=tokenizer.decode(tokenizer(text).input_ids, clean_up_tokenization_spaces=False)) for text in TEXTS]
            pairs = []
            for first, second in PAIRS:
                encoded = tokenizer(first, second, return_token_type_ids=True)
                cut = tokenizer(first, second, truncation=True, max_length=9)
                pairs.append(dict(texts=[first, second], tokens=encoded.input_ids, types=encoded.token_type_ids, at_most_9=cut.input_ids))
            roles = {role: getattr(tokenizer, f"{role}_token_id") for role in ["bos", "eos", "pad", "unk"]}
            cases.append(dict(name=name, shared=shared, files={file: json.dumps(content) for file, content in files.items()}, roles=roles, texts=texts, pairs=pairs))
    return dict(shared=SHARED, cases=cases)


# Chat templates, each in a style that is about.
TEMPLATES = {
    "turns between two tokens": """\
{%- if messages[0].role != 'system' %}
    {{- '<|im_start|>system\\nBe brief.<|im_end|>\\n' }}
{%- endif %}
{%- for turn in messages %}
    {{- '<|im_start|>' ~ turn.role ~ '\\n' ~ (turn.content | trim) ~ '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
""",
    "turns, the assistant's marked": """\
{% for turn in messages %}
{% if turn['role'] == 'assistant' %}
<|im_start|>assistant
{% generation %}{{ turn['content'] }}<|im_end|>{% endgeneration %}

{% else %}
<|im_start|>{{ turn['role'] }}
{{ turn['content'] }}<|im_end|>

{% endif %}
{% endfor %}
{% if add_generation_prompt %}
<|im_start|>assistant
{% endif %}
""",
    "marked, with space control": """\
{{ bos_token }}
{%- for turn in messages -%}
    {%- if turn.role == "assistant" -%}
        {{- " " }}
        {%- generation -%}
            {{ turn.content.strip() + eos_token }}
            {%- set seen = loop.index %}
        {%- endgeneration -%}
        {{- '' if seen is defined else '.' }}
    {%- else -%}
        [INST] {{ turn.content }} [/INST]
    {%- endif -%}
{%- endfor -%}
""",
    "headers": """\
{{- bos_token }}
{%- set rest = messages %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content']|trim %}
    {%- set rest = messages[1:] %}
{%- else %}
    {%- set system = '' %}
{%- endif %}
{{- '<|im_start|>system<|im_end|>\\n\\nToday is a day.\\n' + system + eos_token }}
{%- for turn in rest %}
    {%- set text = '<|im_start|>' + turn['role'] + '<|im_end|>\\n\\n' + turn['content'] | trim + eos_token %}
    {%- if loop.first and system == '' %}
        {%- set text = '!' + text %}
    {%- endif %}
    {{- text }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant<|im_end|>\\n\\n' }}{%- endif %}
""",
    "names on lines": """\
{% for turn in messages %}
    {% if turn['role'] == 'user' %}
{{ '<|user|>
' + turn['content'] + eos_token }}
    {% elif turn['role'] == 'system' %}
{{ '<|system|>
' + turn['content'] + eos_token }}
    {% elif turn['role'] == 'assistant' %}
{{ '<|assistant|>
' + turn['content'] + eos_token }}
    {% endif %}
    {% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
    {% endif %}
{% endfor %}
""",
    "brackets, strict about roles": """\
{%- if messages[0]["role"] == "system" %}
    {%- set system = messages[0]["content"] %}
    {%- set turns = messages[1:] %}
{%- else %}
    {%- set turns = messages %}
{%- endif %}
{%- set state = namespace(asked=0) %}
{%- for turn in turns %}
    {%- if (turn["role"] == "user") != (loop.index0 % 2 == 0) %}
        {{- raise_exception("roles must alternate: user, assistant, user, ... (message " ~ loop.index ~ " is by " ~ turn["role"] ~ ")") }}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for turn in turns %}
    {%- if turn["role"] == "user" %}
        {%- set state.asked = state.asked + 1 %}
        {%- if loop.last and system is defined %}
            {{- "[INST] " + system + "\\n\\n" + turn["content"] + " [/INST]" }}
        {%- else %}
            {{- "[INST] " + turn["content"] + " [/INST]" }}
        {%- endif %}
    {%- else %}
        {{- " " + turn["content"].strip() + eos_token }}
    {%- endif %}
{%- endfor %}
{{- "#%d" | format(state.asked) }}
""",
    "tools, macros, loop controls": """\
{% macro call(name, given) -%}
<call>{{ {'name': name, 'arguments': given} | tojson }}</call>
{%- endmacro %}
{% for turn in messages -%}
{% if turn.role == 'hidden' %}{% continue %}{% endif %}
{{ loop.index }}. {{ turn.role | upper }}{% if turn.tool_calls is defined %} {% for one in turn.tool_calls %}{{ call(one.name, one.arguments) }}{% endfor %}{% endif %}: {{ turn.content.split('\\n')[-1].lstrip() }}
{% if turn.content.startswith('stop') %}{% break %}{% endif %}
{% endfor %}
{{ tools is none }} {{ tools }} {{ true }} {{ messages | length }} {{ messages | map(attribute='role') | join('+') }} {{ add_generation_prompt }} {{ 7 // 2 }} {{ 7 / 2 }} {{ [1, 'a', none] }}
{{ messages[-1] | tojson(indent=2) }}
{# {% generation %} #}{% raw %}{% generation %}{% endraw %}{{ "{% generation %}" }}
""",
}
CHATS = {
    "one": [dict(role="user", content="What is the capital of France?")],
    "two": [dict(role="user", content="  Hello there! "), dict(role="assistant", content=" Hi, how are you?\n")],
    "system": [dict(role="system", content="Summarise the post in one sentence."), dict(role="user", content="I lost the keys 🎉"),
               dict(role="assistant", content="The author lost the keys."), dict(role="user", content="And?"), dict(role="assistant", content="")],
    "odd": [dict(role="assistant", content="stop it\n  now"), dict(role="hidden", content="nothing"), dict(role="user", content="é <s> {{ 1 }} {% x %}")],
    "tools": [dict(role="user", content="weather\n in Paris?"), dict(role="assistant", content="", tool_calls=[dict(arguments=dict(city="Köln", days=[1, 2]), name="weather")], name=None)],
}


def chats():
    base = {"tokenizer_class": "GPT2Tokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>", "additional_special_tokens": TAIL}
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        write(folder, {**{file: SHARED[file] for file in BYTES}, "tokenizer_config.json": base})
        tokenizer = AutoTokenizer.from_pretrained(folder)
        for name, template in TEMPLATES.items():
            for chat, messages in CHATS.items():
                for prompt in [False, True]:
                    case = dict(template=name, chat=chat, add_generation_prompt=prompt)
                    given = dict(chat_template=template, add_generation_prompt=prompt)
                    try:
                        case["text"] = tokenizer.apply_chat_template(messages, tokenize=False, **given)
                        out = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True, **given)
                        case["tokens"], case["generated"] = out["input_ids"], [at for at, mark in enumerate(out["assistant_masks"]) if mark]
                    except Exception as error:
                        case["refused"] = str(error)
                    cases.append(case)
    return dict(config=base, templates=TEMPLATES, chats=CHATS, cases=cases)


for file, golden in [("tokenizers.json", tokenizers()), ("chats.json", chats())]:
    path = HERE / file
    text = json.dumps(golden, ensure_ascii=False, separators=(",", ":"))
    path.write_text(text.replace('},{"', '},\n{"') + "\n", encoding="utf-8")
    print(file, path.stat().st_size, "bytes")
