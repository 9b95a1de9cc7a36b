"""The words of the product as values: orders, versions, windows, problems, clocks. Standard library only."""
