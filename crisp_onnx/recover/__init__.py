"""Stage 6, train: recovery under masks."""
