"""Sensitivity: how far results move with each factor, measured against what seeds alone do."""
