"""What people look at: the progress of a run, its tables."""
