"""Tasks as the program sees them: `@task`, directions, futures, data versions, synchronisation. Knows no cluster."""
