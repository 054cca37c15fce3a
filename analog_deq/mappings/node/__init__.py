"""What the passive RC network and the gm-C network share: a capacitor node that the array drives without an op-amp.

``C ds/dt = -i_load(s) - Y' s + K sigma(s) + J x``: no virtual ground, so the array loads its nodes, and a weight is a
share of the node's total conductance. Families differ in the load at the node and in their cells.
"""
