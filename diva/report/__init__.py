"""Report: numbers become TensorBoard events, figures, console lines and a run's card."""
