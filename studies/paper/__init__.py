"""The paper kit: rows of the paper's table, run on the real data by whoever has a GPU."""
