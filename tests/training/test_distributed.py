"""Two processes on the CPU train one model: the same weights and codebook in both."""

from __future__ import annotations

import torch
from torch import distributed, multiprocessing

from vqaudio.models.config import QuantizerConfig
from vqaudio.models.quantizer import ResidualQuantizer

CONFIG = QuantizerConfig(quantizers=2, codebook_size=16, code_dim=4, restart_below=0.2)


def _quantize(rank, latents, address, results):
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(CONFIG, 6)
    torch.manual_seed(rank)  # what is drawn may differ, what is learned may not
    quantizer.initialize(latents[rank])
    for _ in range(3):
        quantizer.train()(latents[rank])
    results.put((rank, [stage.codebook.numpy() for stage in quantizer.stages]))
    distributed.destroy_process_group()


def test_codebooks_are_the_same_in_all_processes(tmp_path):
    latents = torch.randn(2, 4, 6, 50, generator=torch.Generator().manual_seed(1))
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    address = f"file://{tmp_path}/rendezvous"
    processes = [context.Process(target=_quantize, args=(i, latents, address, results)) for i in range(2)]
    for process in processes:
        process.start()
    books = dict(results.get(timeout=120) for _ in processes)
    for process in processes:
        process.join(60)
    assert all((one == other).all() for one, other in zip(books[0], books[1], strict=True))
