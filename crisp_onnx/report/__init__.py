"""Stage 12, tell: report.json, tables, the page, and what this machine has."""
