"""Machine: what this computer is and may use, retrying, judging failures, and keeping child processes alive."""
