"""Synthesis of maximal layered neighbourhoods."""
