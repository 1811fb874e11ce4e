"""`make test-hf`: run the common tests, say how each variant fared."""

import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import torch
import transformers

from tests.hugging_face.source import common_tests

OPTIONS = ["-o", "addopts=", "-o", "filterwarnings=ignore", "-p", "no:cacheprovider", "--quiet", "--tb=short"]


class Tally:
    """The outcome of each test of each variant; one of which a part fails has failed."""

    def __init__(self) -> None:
        self.outcomes: dict[str, dict[str, str]] = defaultdict(dict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        _, variant, test = report.nodeid.split("::")
        outcome = "by design" if hasattr(report, "wasxfail") else report.outcome
        if self.outcomes[variant].get(test) != "failed" and (report.when == "call" or outcome != "passed"):
            self.outcomes[variant][test] = outcome

    def table(self) -> str:
        """In Markdown."""
        columns = ("passed", "failed", "by design", "skipped")
        rows = [("variant", *columns), ("---", *["---:"] * len(columns))]
        for variant, outcomes in self.outcomes.items():
            counts = Counter(outcomes.values())
            rows.append((variant.removeprefix("Test"), *(str(counts[column]) for column in columns)))
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main(options: list[str]) -> int:
    """Exit status of pytest, which takes these options."""
    common_tests()  # before there are several processes
    tally = Tally()
    here = str(Path(__file__).with_name("common.py"))
    status = pytest.main([here, *OPTIONS, "--numprocesses=2", *options], plugins=[tally])
    print(f"\ntransformers {transformers.__version__}, torch {torch.__version__}\n\n{tally.table()}")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
