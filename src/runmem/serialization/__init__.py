"""Arguments, functions, classes, results and errors on their way between the program and its workers."""
