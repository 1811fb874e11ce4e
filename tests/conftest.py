import torch

torch.set_num_threads(1)  # the tests' tensors are tiny, and tests may run beside other work


def pytest_addoption(parser):
    parser.addoption("--update-golden", action="store_true", help="write tests/golden anew from this run")
