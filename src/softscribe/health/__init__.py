"""Is the training going well? What an alignment shows of its own failure, without any label; and which pairs are doubtful."""
