"""`python -m lawful`."""

import sys

from lawful.cli.main import main

sys.exit(main())
