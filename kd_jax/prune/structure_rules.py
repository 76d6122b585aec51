"""The rules of structure.py, by primitive. What is in none of these freezes all that it touches."""

from kd_jax.prune import structure_rules_calls as calls
from kd_jax.prune import structure_rules_elementwise as elementwise
from kd_jax.prune import structure_rules_index as index
from kd_jax.prune import structure_rules_linear as linear
from kd_jax.prune import structure_rules_parts as parts
from kd_jax.prune import structure_rules_shape as shape

ROOMS = (elementwise, shape, parts, linear, index, calls)
RULES = {primitive: rule for room in ROOMS for primitive, rule in room.RULES.items()}
