"""How much arithmetic a model's training step is: what throughput is measured against."""

from __future__ import annotations

from span_electra.config import ModelConfig
from span_electra.model.layers import LAYERS


def training_flops(config: ModelConfig, length: int, mask_ratio: float = 0.2) -> float:
    """Return the floating-point operations of one token's training step: forward, and twice that backward.

    Counts the matrix products that the objective needs, vocabulary logits at hidden tokens alone; length: of
    the rows, in tokens. `config.vocab_size` must be known.

    Example: 12x256 with 12x64, embeddings of 128, 10,000 tokens, rows of 128 -> about 70 million
    """
    assert config.vocab_size is not None
    total, fused = 0.0, LAYERS[config.architecture].fused
    crops = config.sequence_crop if config.sequence_objective == "contrastive" else 0.0
    for network, passes in ((config.generator, 1.0), (config.discriminator, 1.0 + crops)):
        width, wide = network.hidden_size, network.intermediate_size
        matrices = 1 + fused.get("up", 1)  # down, and up with the gate that some layers have beside it
        weights = 4 * width * width + matrices * width * wide
        total += passes * network.num_hidden_layers * (2 * weights + 4 * length * width)
        if width != config.embedding_size:
            total += passes * 2 * width * config.embedding_size
    total += mask_ratio * 2 * config.embedding_size * (config.generator.hidden_size + config.vocab_size)
    width = config.discriminator.hidden_size
    total += 2 * width * (config.dim_final_feedforward or width)
    return 3 * total
