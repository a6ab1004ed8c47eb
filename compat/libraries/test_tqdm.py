"""tqdm: a bar over what a pool yields, and ``process_map`` in an unmodified program."""

from __future__ import annotations

import io

from tqdm import tqdm

import zexec
from compat.libraries.programs import Programs
from compat.libraries.work import square

PROGRAM = """
import io, re
from tqdm.contrib.concurrent import process_map

def square(n):
    return n * n

def shown(bar):
    return re.findall(r"[0-9]+/[0-9]+", bar.getvalue())[-1]

if __name__ == "__main__":
    bar = io.StringIO()
    print(process_map(square, range(50), max_workers=2, chunksize=5, file=bar), shown(bar))
    print(process_map(pow, range(5), range(5), max_workers=2, file=bar), shown(bar))
"""


def test_imap_unordered(pool: zexec.Pool) -> None:
    bar = io.StringIO()
    values = list(tqdm(pool.imap_unordered(square, range(300), 7), total=300, file=bar))
    assert sorted(values) == [n * n for n in range(300)]
    assert "300/300" in bar.getvalue()


def test_imap(pool: zexec.Pool) -> None:
    assert list(tqdm(pool.imap(square, iter(range(300))), file=io.StringIO())) == [n * n for n in range(300)]


def test_process_map(programs: Programs) -> None:
    (programs.template / "program.py").write_text(PROGRAM)
    ours, plain = programs.both("program.py")
    assert (ours.code, ours.out, ours.err) == (plain.code, plain.out, plain.err)
    assert ours.code == 0
    assert "5/5" in ours.out
