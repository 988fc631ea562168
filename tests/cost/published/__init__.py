"""Models of published accelerator designs, each proven on the figures of its source."""
