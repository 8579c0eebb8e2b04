"""Benchmark commands: one module per published table or peer comparison."""
