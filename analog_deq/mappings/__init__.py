"""Ways to build one network as a circuit: a folder a family, each registered by one line in ``registry.py``."""
