"""The configuration: its schema, reading, checking, and what changed between two. See README.md."""
