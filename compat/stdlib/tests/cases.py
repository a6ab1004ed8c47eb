"""Tests that go wrong in each way that the harness must survive; test_watch.py runs them as a suite."""

import os
import subprocess
import tempfile
import time
import unittest


class Cases(unittest.TestCase):
    def test_a_passes(self) -> None:
        pass

    def test_b_hangs(self) -> None:
        time.sleep(1000)

    def test_c_dies(self) -> None:
        print("last words", flush=True)
        os._exit(3)

    def test_d_fails(self) -> None:
        self.fail("1 != 2")

    def test_e_fails_in_a_subtest(self) -> None:
        for number in range(2):
            with self.subTest(number=number):
                if number:
                    self.fail("not 0")

    def test_f_is_skipped(self) -> None:
        self.skipTest("of its own")

    def test_g_leaves_a_process(self) -> None:
        subprocess.Popen(["sleep", "1000"], start_new_session=True)

    def test_h_leaves_a_file(self) -> None:
        tempfile.mkstemp(prefix="left-")

    def test_i_alters_the_environment(self) -> None:
        from test import support

        support.environment_altered = True

    def test_j_passes(self) -> None:
        pass


class SetUpFails(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        raise ValueError("in setUpClass")

    def test_never_runs(self) -> None:
        pass
