"""Jobs: many files, atomic publication, reports."""
