"""What nodes have written comes to the master: spools, copies of them, events and who hears of these."""
