"""Where results of offline scoring go. A sink takes Arrow batches in order and publishes them whole, or not at all."""
