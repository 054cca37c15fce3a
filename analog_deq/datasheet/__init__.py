"""The datasheet of a cell: quantities with their worst corners and spreads, and the measured curves, as one page."""
