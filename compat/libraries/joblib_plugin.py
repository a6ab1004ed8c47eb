"""A pytest plugin: registers zexec with joblib before joblib's tests are imported, and on demand under another's name."""

from __future__ import annotations

import os

import joblib

import zexec.joblib

if "ZEXEC_COMPAT_AS" in os.environ:
    joblib.register_parallel_backend(os.environ["ZEXEC_COMPAT_AS"], zexec.joblib.ZexecBackend)
