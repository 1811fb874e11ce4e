import torch
from hypothesis import settings

torch.set_num_threads(1)  # the tests' tensors are tiny, and tests may run beside other work
settings.register_profile("shared machine", deadline=None)  # no assertion is on wall-clock time
settings.load_profile("shared machine")


def pytest_addoption(parser):
    parser.addoption("--update-golden", action="store_true", help="write tests/golden anew from this run")
