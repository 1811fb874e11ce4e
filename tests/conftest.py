import torch

torch.set_num_threads(1)  # the tests' tensors are tiny, and tests may run beside other work
