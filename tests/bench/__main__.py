"""`python3 -m gateway bench [ingest|drain|visible|sync|pages|growth]`: measures and reports; asserts nothing.

What is compared runs in turns within one call, since machines drift: quote the ratios.
"""

from __future__ import annotations

import sys

from tests.bench import drain, growth, ingest, pages, sync, visible

PARTS = {
    "ingest": ingest.main, "drain": drain.main, "visible": visible.main, "sync": sync.main, "pages": pages.main,
    "growth": growth.main,
}  # fmt: skip


def main(arguments: list[str]) -> int:
    unknown = [name for name in arguments if name not in PARTS]
    if unknown:
        print(f"There is no benchmark called {unknown[0]}; there are: {', '.join(PARTS)}")
        return 2
    # growth stores a million orders and takes minutes: only when it is named.
    for name in arguments or [name for name in PARTS if name != "growth"]:
        print(f"== {name}")
        PARTS[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
