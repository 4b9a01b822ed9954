"""Networks: plain `torch.nn.Module` code, and `build`, which makes one from a configuration."""
