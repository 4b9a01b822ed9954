"""Serving modules of this room import neither torch nor onnx: a child interpreter serves a package and looks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.model import examples

SERVE = """
import json, sys
from pathlib import Path
import numpy as np
import corelane.model.batch, corelane.model.config, corelane.model.decode, corelane.model.skew
from corelane.model.package import ModelPackage

package = ModelPackage.load(Path(sys.argv[1]))
with package.predictor() as predictor:
    package.check_golden(predictor)
    label = predictor.predict_matrix(np.zeros((1, 4)))["label"].tolist()
print(json.dumps({"label": label, "loaded": sorted({name.partition(".")[0] for name in sys.modules})}))
"""


def test_a_served_package_loads_neither_torch_nor_onnx(tmp_path: Path) -> None:
    """Loading, the golden check and a prediction need ONNX Runtime, and no trainer, exporter or dataframe library."""
    path = examples.publish(tmp_path, examples.matrix(4, 2))
    child = subprocess.run(
        [sys.executable, "-c", SERVE, str(path)], capture_output=True, text=True, timeout=120, check=True
    )
    answer = json.loads(child.stdout)
    assert len(answer["label"]) == 1
    assert "onnxruntime" in answer["loaded"]
    # Arrow imports pandas by itself where it is installed; a server's process forbids it (`serve/worker.py`).
    assert not {"torch", "onnx", "onnxscript", "polars", "torchmetrics", "sqlalchemy"} & set(answer["loaded"])
