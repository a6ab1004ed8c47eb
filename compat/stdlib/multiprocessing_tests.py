"""The tests of test._test_multiprocessing as classes that spawned processes can import, for one start method.

The interpreter's own test_multiprocessing_fork, _spawn and _forkserver do the same, but not every build ships them.
"""

import os

from test._test_multiprocessing import install_tests_in_module_dict

from compat.stdlib.startup import START_METHOD

install_tests_in_module_dict(globals(), os.environ[START_METHOD])
