"""Stage 10, lower: hardware descriptors, and a model as a target sees it (`crisp-lowered/1`)."""
