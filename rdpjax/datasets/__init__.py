"""Data sets: where records come from, how they are written and judged; one file each."""
