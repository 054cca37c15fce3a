"""What each cause costs a trained network, in state error and accuracy, and what fixing it buys."""

from analog_deq.attribution.attribute import Scope as Scope
from analog_deq.attribution.attribute import attribute as attribute
from analog_deq.attribution.causes import Cause as Cause
from analog_deq.attribution.costs import Attribution as Attribution
