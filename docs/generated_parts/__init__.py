"""Generated parts of the pages, by what they describe. Their functions return Markdown."""
