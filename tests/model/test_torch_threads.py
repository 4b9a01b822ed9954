"""torch's thread count is borrowed, not taken."""

import pytest
import torch

from corelane.model.torch_threads import torch_threads


def test_the_count_is_put_back_after_an_error() -> None:
    """Inside the block the count is the one asked for; afterwards it is what it was, whatever happened."""
    before = torch.get_num_threads()

    def fail_inside() -> None:
        with torch_threads(before + 1):
            assert torch.get_num_threads() == before + 1
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail_inside()
    assert torch.get_num_threads() == before
