"""Whether the study's numbers are the same on a CPU: three methods of one seed again.

    python benchmarks/study_agreement.py --source DIR

Compares with ``results/study-clinc150-rules-phrases-3.json``, which a GPU made, and writes
``results/study-agreement.json``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

import machine
from sglora_fed.config.schema import AdapterConfig, BackboneConfig, GeneratorConfig
from study import Study
from study_methods import fitted, functional

OTHER = "study-clinc150-rules-phrases-3"


def main() -> None:
    """Train the zoo and the functional generator, and measure three methods."""
    parser = argparse.ArgumentParser(description="The study's numbers on a CPU.")
    parser.add_argument("--source", type=Path, required=True)
    source = parser.parse_args().source
    torch.set_num_threads(1)
    study = Study("clinc150", source, "rules", 3, BackboneConfig(), AdapterConfig())
    found = {}
    for name in ("topk", "ridge"):
        generator = fitted(study, GeneratorConfig(), name)
        found[name] = study.accuracy(generator.generate(study.requests, 1, 0).adapters[:, 0])
    linear = functional(study, GeneratorConfig())
    found["functional"] = study.accuracy(linear.adapters(study.requests))
    path = machine.RESULTS / f"{OTHER}.json"
    other = json.loads(path.read_text(encoding="utf-8"))
    facts = machine.facts("torch", "transformers", "numpy") | {"compared_with": other["device"]}
    theirs = {name: other["methods"][name] for name in found}
    kept = {"splits": other["splits"], "cpu": found, "gpu": theirs}
    machine.write("study-agreement", facts | kept)


if __name__ == "__main__":
    main()
