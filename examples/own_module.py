"""A network of one's own: any `torch.nn.Module` that takes the pipeline's tensor and returns one column per class, or
one column alone where there are two.
"""

import numpy as np
from torch import Tensor, nn

from corelane.app import load, package, train


class Residual(nn.Module):
    """Two linear layers with a shortcut; [n, 8] to [n, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8))
        self.head = nn.Linear(8, 1)

    def forward(self, features: Tensor) -> Tensor:
        return self.head(features + self.inner(features))


generator = np.random.default_rng(0)
x = generator.normal(size=(1000, 8)).astype(np.float32)
data = {"x": x, "inside": (np.linalg.norm(x, axis=1) < 2.8).astype(np.int64)}

run = train({"name": "ball", "data": {"target": "inside"}}, data=data, model=Residual())
with load(package(run)) as model:
    print(model.predict_columns({"x": x[:3]})["label"])
