"""Core: errors, types, configuration loading and the clock. It imports nothing else of Corelane."""
