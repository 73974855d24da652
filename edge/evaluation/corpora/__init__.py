"""Evaluation of the speech branch on any corpus: its clips, its classes, its speakers and what listeners call them."""
