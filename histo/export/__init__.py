"""Writers of everything that leaves histo; they take records and arrays, never a slide."""
