"""Triton's extensions that clients and load generators ask for, of any server that declares them.

The sources are `extension_model_configuration.md`, `extension_statistics.md` and `extension_model_repository.md`.
"""

from __future__ import annotations

from tests.conformance.oip.peer import Peer


def test_a_configuration_has_what_perf_analyzer_reads(peer: Peer) -> None:
    """`max_batch_size`, and tensors with types and dims, before which the metadata has the batch."""
    peer.needs("model_configuration")
    config = peer.ask("GET", f"{peer.base}/config").json
    assert config["name"] == peer.model
    assert isinstance(config["max_batch_size"], int)
    for kind, described in (("input", peer.metadata["inputs"]), ("output", peer.metadata["outputs"])):
        shapes = {tensor["name"]: tensor["shape"] for tensor in described}
        for tensor in config[kind]:
            assert tensor["data_type"].startswith("TYPE_")
            rank = len(tensor["dims"]) + (config["max_batch_size"] > 0)
            assert len(shapes[tensor["name"]]) in (rank, 1)  # a column of single values has no axis of its own


def test_statistics_count_what_was_answered(peer: Peer) -> None:
    """Of one model, and of all."""
    peer.needs("statistics")
    assert peer.infer(peer.request).status == 200
    for path in (f"{peer.base}/stats", "/v2/models/stats"):
        found = {model["name"]: model for model in peer.ask("GET", path).json["model_stats"]}
        stats = found[peer.model]
        assert stats["inference_count"] >= 1
        assert stats["execution_count"] >= 1
        assert stats["inference_stats"]["success"]["count"] >= 1
        assert stats["inference_stats"]["success"]["ns"] > 0


def test_the_index_lists_the_model_as_ready(peer: Peer) -> None:
    """With name, version and state."""
    peer.needs("model_repository")
    for body in ({}, {"ready": True}):
        listed = {model["name"]: model for model in peer.ask("POST", "/v2/repository/index", body).json}
        assert listed[peer.model]["state"] == "READY"
