"""Stage 11, estimate: cycles, energy, memory and the limiting resource of every layer on a target."""
