"""SPICE-in-the-loop co-design of deep equilibrium models on analog circuits."""

__version__ = "0.1.0"
