"""What a step is given: examples with their ids."""

import flax.struct
import jax

Array = jax.Array


@flax.struct.dataclass
class Batch:
    """B examples.

    Attributes:
      ids: int32 [B], an example's place in its split. Augmentation, replayed teachers and memory
        banks hang on it.
      inputs: [B, ...]; uint8 as stored, float32 once prepared.
      labels: int32 [B].
      targets: float32 [B, K], the distribution to learn: one-hot labels, smoothed or mixed.
        None until the batch is prepared.
      weights: float32 [B], 1 for an example and 0 for padding of the last batch.
    """

    ids: Array
    inputs: Array
    labels: Array
    weights: Array
    targets: Array | None = None
