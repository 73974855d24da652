"""`moodring batch`: many files to tables, in several processes, resumable after any end."""
