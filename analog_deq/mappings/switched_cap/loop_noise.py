"""placeholder"""
class LoopNoise:
    pass
