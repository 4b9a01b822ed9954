"""Training: the loop, its exact state on disk, its report, and the recovery of a crashed trainer."""
