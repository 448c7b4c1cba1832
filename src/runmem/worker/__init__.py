"""What runs in a worker process and beside it: calls, what measures them, what ends them."""
