"""Models for other runtimes than PyTorch."""
