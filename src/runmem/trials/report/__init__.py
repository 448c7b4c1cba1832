"""What is made of a trial: its results, tables and figures."""
