"""Running trained networks: plans beside exhaustive searches, precisions beside float32, behaviour under a quota."""
