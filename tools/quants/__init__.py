"""What tools/compare_quants.py makes and measures."""
