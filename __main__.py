"""``python -m mlverify``."""

from .cli.main import main

main()
