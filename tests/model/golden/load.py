#!/usr/bin/env python3
"""Loads model folders with transformers, as any user would: python3 load.py FOLDER...

Prints the architecture of each and fails if a tensor is missing, unexpected or of another
shape. make.py names the versions.
"""
import json
import pathlib
import sys

import transformers

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
failed = False
for folder in map(pathlib.Path, sys.argv[1:]):
    architecture = json.loads((folder / "config.json").read_text())["architectures"][0]
    # The report describes a mismatched tensor better than an exception.
    model, report = getattr(transformers, architecture).from_pretrained(folder, output_loading_info=True, ignore_mismatched_sizes=True)
    problems = {kind: sorted(map(str, names)) for kind, names in report.items() if names}
    print(f"{folder}: {architecture}, {sum(tensor.numel() for tensor in model.parameters())} parameters", *problems.items())
    failed |= bool(problems)
sys.exit(failed or not sys.argv[1:])
