"""Stage 11, tell: report.json, tables, the page, and what this machine has."""
