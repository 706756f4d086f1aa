"""How to learn: the task contract, the loop and what it needs. No folders, no git."""
