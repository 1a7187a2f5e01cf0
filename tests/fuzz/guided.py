"""`python -m tests.fuzz.guided [options of libFuzzer] CORPUS`: atheris steers by the lines of the decoder reached."""

import sys

import atheris

with atheris.instrument_imports(include=["collector"]):
    from tests.fuzz.decoding import Target


def main() -> None:
    target = Target()

    def one(data: bytes) -> None:
        target.feed(data)
        if target.fed % 100_000 == 0:
            target.take()
            target.reload()

    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
