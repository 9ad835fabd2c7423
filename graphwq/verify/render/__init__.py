"""A report for people: Markdown and HTML."""
