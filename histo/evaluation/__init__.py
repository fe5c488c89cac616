"""What an evaluation is made of: cases and truth, statistics with their intervals, tables, pictures, the page."""
