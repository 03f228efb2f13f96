"""The tables and studies of the ULTra paper (arXiv 2411.12589)."""
