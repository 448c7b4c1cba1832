"""Tasks that are commands: programs, MPI, containers, HTTP requests, and the decorators that declare them."""
