"""``python cli.py ...`` runs the command line of this checkout; ``analog-deq`` is the installed name."""

import sys

try:
    from analog_deq.cli import main
except ModuleNotFoundError as error:
    if error.name != "click":
        raise
    sys.stderr.write("Error: click is not installed for this Python; run `make setup`, then .venv/bin/python cli.py\n")
    raise SystemExit(2) from None

if __name__ == "__main__":
    main()
