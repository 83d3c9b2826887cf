"""Writes golden.json: what Jinja 2, set up as transformers sets it up for chat templates, makes of small templates.

python make.py   (jinja2 3.1; the environment and `tojson` are written out as transformers' chat_template_utils.py has them)
"""

import itertools
import json
from pathlib import Path

from jinja2.sandbox import ImmutableSandboxedEnvironment

ENVIRONMENT = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
ENVIRONMENT.filters["tojson"] = lambda value, ensure_ascii=False, indent=None, separators=None, sort_keys=False: json.dumps(
    value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

VALUES = {
    "none": "none", "undefined": "missing", "true": "true", "int": "3", "large": "12345678901234567890123", "float": "2.5", "text": "'ab'",
    "empty text": "''", "list": "[1, 'a']", "empty list": "[]", "dict": "{'b': 1, 'a': none}", "row": "row", "row none": "row.nothing",
}
TESTS = ["iterable", "sequence", "mapping", "string", "number", "integer", "float", "boolean", "none", "defined", "undefined", "true", "false"]
ROW = {"z": 1, "nothing": None, "list": [1, 2.0], "a": {"d": "x", "c": 1e20}, "m": [{"k": "é\"'"}]}

TEMPLATES = [f"{{{{ {value} is {test} }}}}" for value, test in itertools.product(VALUES.values(), TESTS)]
TEMPLATES += [f"{{{{ {value} }}}}" for value in ["none", "true", "3", "2.0", "0.1", "1e16", "1e15", "0.0001", "0.00001", "1e300", "-1.5e-7",
                                                 "12345678901234567890123", "'a'"]]
TEMPLATES += [f"{{{{ {value} | tojson }}}}" for value in ["none", "row", "row.a", "row.list", "row.m", "[2.0, 1e16, 0.00001, 1e300]",
                                                          "12345678901234567890123", "'é\\n\"'", "true"]]
TEMPLATES += ["{{ row | tojson(indent=2) }}", "{{ row | tojson(sort_keys=true) }}", "{{ row | tojson(ensure_ascii=true) }}",
              "{{ row | tojson(separators=(',', ':')) }}", "{{ [[], {}, [[]]] | tojson(indent=1) }}",
              "{% for k, v in row.items() %}{{ k }},{% endfor %}", "{% for k in row %}{{ k }},{% endfor %}", "{{ row.keys() | list | join('-') }}",
              "{% for k, v in row | dictsort %}{{ k }},{% endfor %}", "{{ row | length }}", "{{ 'z' in row }}{{ 'y' in row }}",
              "{{ row.get('z') }}{{ row.get('y') is none }}",
              "a\r\n{% if true %}\r\nb\r{% endif %}\r\n{{ 'c\r\nd' }}\r\n", "{{ row.m[0].k }}\r\n",
              "{{ row }}", "{{ row.a }}{{ row.list }}{{ row.m }}", "{{ ['it\\'s', '\\n\\\\'] }}", "{{ [none, true, 'x'] }}", "{{ {} }}{{ [] }}"]

made = [[template, ENVIRONMENT.from_string(template).render(row=ROW)] for template in TEMPLATES]
Path(__file__).with_name("golden.json").write_text(json.dumps({"row": ROW, "made": made}, ensure_ascii=False, indent=0) + "\n")
