"""The data sets of the benchmarks: image packs, their readers, and encoded splits."""
