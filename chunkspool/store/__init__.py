"""Redis: the keys, one typed door per script, and the border where its errors become ours."""
