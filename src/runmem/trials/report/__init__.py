"""The report of a trial: results, tables and figures."""
