"""One thread for all tests.

Their tensors are too small to share among cores; beside other work, threads would wait for one another for minutes.
"""

import torch

torch.set_num_threads(1)
