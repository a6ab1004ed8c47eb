"""Count the words of many text files with multiprocessing.Pool.

    python docs/examples/wordcount.py                  on the stdlib's pool
    python -m zexec run docs/examples/wordcount.py     on zexec, unchanged
    ... [FILES [MEGABYTES]]                            how many files to make, how much text in all (128 and 60)

It makes its own files, the same ones each time, in a temporary folder; counts their words in parallel and then one file
after the other; and checks that both came to the same.
"""

import random
import re
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from multiprocessing import Pool
from pathlib import Path

WORD = re.compile(r"[a-z]+")
SYLLABLES = ["ba", "co", "den", "fi", "gur", "la", "mo", "nes", "pi", "ra", "su", "ti", "ven", "zo"]


def vocabulary():
    """3,000 words; the first ones are meant to be the most frequent."""
    chance = random.Random("vocabulary")
    words = {"".join(chance.choices(SYLLABLES, k=1 + length % 4)) for length in range(6000)}
    return sorted(words, key=lambda word: (len(word), word))[:3000]


def make_file(folder, size, number):
    """Write a text of about `size` bytes in which the n-th word is n times rarer than the first (Zipf's law)."""
    chance = random.Random(number)
    words = vocabulary()
    path = folder / f"text-{number:04}.txt"
    with open(path, "w") as file:
        while file.tell() < size:
            drawn = chance.choices(words, weights=[1 / (n + 1) for n in range(len(words))], k=10_000)
            file.write("\n".join(" ".join(drawn[i : i + 12]) for i in range(0, len(drawn), 12)) + "\n")
    return path.stat().st_size


def count_words(path):
    """The words of a file, and how often each is in it."""
    return Counter(WORD.findall(path.read_text()))


def timed(what, megabytes, tasks, function):
    """Call a function, print how long it took and how fast that was, and return what it returned."""
    start = time.perf_counter()
    value = function()
    seconds = time.perf_counter() - start
    print(f"{what:<28}{seconds:6.2f} s {megabytes / seconds:8.1f} MB/s {tasks / seconds:8.0f} files/s", flush=True)
    return value, seconds


def main():
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 128
    megabytes = float(sys.argv[2]) if len(sys.argv) > 2 else 60.0
    with tempfile.TemporaryDirectory() as name, Pool() as pool:
        folder = Path(name)
        make = partial(make_file, folder, megabytes * 1e6 / files)
        sizes, _ = timed("made the files", megabytes, files, lambda: pool.map(make, range(files), chunksize=1))
        paths = sorted(folder.iterdir())
        megabytes = sum(sizes) / 1e6

        def count(map_function):
            total = Counter()
            for counted in map_function(count_words, paths):
                total.update(counted)
            return total

        total, parallel = timed("counted words in parallel", megabytes, files, lambda: count(pool.imap_unordered))
        expected, serial = timed("counted words one by one", megabytes, files, lambda: count(map))
        assert total == expected, "the two counts differ"

        print(f"{files} files, {megabytes:.1f} MB, {total.total():,} words, {len(total):,} different")
        print("most frequent:", ", ".join(f"{word} {times:,}" for word, times in total.most_common(5)))
        print(f"{serial / parallel:.2f} times as fast as one by one, and the same counts")
        print(f"ran on {type(pool).__module__}.{type(pool).__name__}")


if __name__ == "__main__":
    main()
