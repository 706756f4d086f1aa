"""Where records, data, learning, kernels and reports meet: find, run, resume, reproduce."""
