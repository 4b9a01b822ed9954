"""Model snapshots: the ONNX graph of weights that were packaged before, from the cache instead of the exporter.

Only nets that Corelane builds itself are looked up: their configuration, pipeline and weights say everything about
the graph. The skew gate holds the packaged graph to the answers of the module all the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version

import numpy as np
from torch import nn

from corelane.data.pipeline import TensorSpec
from corelane.model.config import BUILT_IN, ModelConfig
from corelane.model.export import Export, export_graph, weights_of
from corelane.store.tiers.tier import CacheTier

FOLDER = "graphs"  # the kind of entry in the cache
_VERSION = 2  # of how nets are computed: raised when one of the same weights gets another graph
_LIBRARIES = ("corelane", "torch", "onnx", "onnx_ir", "onnxscript")


def kept_export(config: ModelConfig, cache: CacheTier, pipeline_digest: str = "") -> Export:
    """`export_graph` for the net of `config`, looked up in `cache` first, and kept there.

    `pipeline_digest` is that of the pipeline behind which the net stands: its task and columns shape the net too.
    """
    if config.net not in BUILT_IN:
        return export_graph

    def export(module: nn.Module, inputs: Mapping[str, TensorSpec]) -> bytes:
        key = f"{FOLDER}/{_digest(config, module, inputs, pipeline_digest)}"
        kept = cache.get(key)
        if kept is not None:
            return kept["onnx"].tobytes()
        graph = export_graph(module, inputs)
        cache.put(key, {"onnx": np.frombuffer(graph, dtype=np.uint8)})
        return graph

    return export


def _digest(config: ModelConfig, module: nn.Module, inputs: Mapping[str, TensorSpec], pipeline_digest: str) -> str:
    facts = {
        "version": _VERSION,
        "versions": {name: version(name) for name in _LIBRARIES},
        "model": config.model_dump(mode="json"),
        "pipeline": pipeline_digest,
        "inputs": [[name, list(spec.shape), str(spec.dtype)] for name, spec in inputs.items()],
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, values in weights_of(module).items():
        digest.update(f"{name}:{values.dtype}:{values.shape};".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()
