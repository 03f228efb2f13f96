"""The tables of the TokenTM paper (arXiv 2403.14552)."""
