"""Characterising any cell: quantities of its datasheet over corners and dies, each measured in ngspice."""
