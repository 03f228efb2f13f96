"""Every model family that can be had, tried: is what the library says of it what an explicit loop says?

    python -m tools.families -o docs/families.md

Small models with random weights. Nothing here uses the library's engine: maps are stored and multiplied one by one
(`reference`), and what tokens depend on beside their attention is asked of the model itself (`structure`).
"""
