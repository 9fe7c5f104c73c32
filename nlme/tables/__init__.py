"""Tables for readers: numbers as text, and text cells as Markdown, HTML, LaTeX, RTF and CSV."""
