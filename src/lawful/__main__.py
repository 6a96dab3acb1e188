"""`python -m lawful`."""

import sys

from lawful.app.main import main

sys.exit(main())
