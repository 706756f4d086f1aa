"""Search: which values of a task's knobs give the best validation metric, found by trials that repeat to the last bit."""

SAMPLERS = ("grid", "random", "tpe", "sigopt")
