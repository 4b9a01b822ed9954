"""Networks that were not trained here: judged in a process of their own before anything else opens them."""
