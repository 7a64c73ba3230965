"""How much arithmetic a model's training step is: what throughput is measured against."""

from __future__ import annotations

from span_electra.config import ModelConfig
from span_electra.model.layers import LAYERS

# Objective -> what generator and discriminator cost, in forward passes; a backward one costs twice as much.
PASSES = {"joint": (3, 3), "generator": (3, 0), "discriminator": (1, 3)}


def training_flops(config: ModelConfig, length: int, mask_ratio: float = 0.2) -> float:
    """Return the floating-point operations of one token's training step: forward, and twice that backward.

    Counts the matrix products that the objective needs, vocabulary logits at hidden tokens alone, without the
    heads at the spans' boundaries; of joint training a step in which both networks learn. length: of the
    rows, in tokens. `config.vocab_size` must be known.

    Example: 12x256 with 12x64, embeddings of 128, 10,000 tokens, rows of 128 -> about 70 million
    """
    assert config.vocab_size is not None
    total, fused = 0.0, LAYERS[config.architecture].fused
    of_generator, of_discriminator = PASSES[config.objective]
    # Crops are read beside their rows, by the discriminator's encoder alone.
    crops = config.sequence_crop if config.sequence_objective == "contrastive" else 0.0
    encoders = ((config.generator, of_generator), (config.discriminator, of_discriminator * (1.0 + crops)))
    for network, passes in encoders:
        width, wide = network.hidden_size, network.intermediate_size
        matrices = 1 + fused.get("up", 1)  # down, and up with the gate that some layers have beside it
        weights = 4 * width * width + matrices * width * wide
        total += passes * network.num_hidden_layers * (2 * weights + 4 * length * width)
        if width != config.embedding_size:
            total += passes * 2 * width * config.embedding_size
    head = 2 * config.embedding_size * (config.generator.hidden_size + config.vocab_size)
    total += of_generator * mask_ratio * head
    width = config.discriminator.hidden_size
    return total + of_discriminator * 2 * width * (config.dim_final_feedforward or width)
