"""Schema versions. Rules: docs/architecture.md, "Changing the schema"."""
