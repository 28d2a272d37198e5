"""What is measured: one scenario for each file."""
