"""A student that ends in its teacher's classifier."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from kd_jax.distill import connect
from kd_jax.distill.classifier import PROJECTED, linear, mean_of_places
from kd_jax.distill.taps import published
from kd_jax.ensembles import part, together
from kd_jax.errors import require
from kd_jax.forward import Model, Outputs, Variables
from kd_jax.models.projector import Projector

Array = jax.Array
REUSED = "reused"  # the collection that holds the teacher's classifier


@functools.lru_cache(maxsize=32)
def reused(
    student: Model,
    teacher: Model,
    shape: tuple[int, ...],
    reduction: int = 2,
    student_classifier: str = "classifier",
    teacher_classifier: str = "classifier",
) -> Model:
    """The student up to its last map, a projector of this to the teacher's width, and the teacher's
    classifier: that is taken from the teacher before the first step, and never trained.

    Chen et al., "Knowledge Distillation with the Reused Teacher Classifier", 2022,
    https://arxiv.org/abs/2203.14001. The student's own classifier is left out. The projected map is
    the feature `projected`, which the term SimKD brings to the teacher's.

    Args:
      shape: of an example, [H, W, C].
      reduction: the teacher's channels over those within the projector.
      student_classifier, teacher_classifier: paths of the last linear layers.

    Raises:
      UsageError: a network has no last map [B, H, W, C], or no such layer.
    """
    (made, tap, ours), (of_teacher, _, theirs) = (
        _last(model, shape, who) for model, who in ((student, "student"), (teacher, "teacher"))
    )
    spare = linear(made["params"], student_classifier, ours.shape[-1], "student-classifier")
    layer = linear(of_teacher["params"], teacher_classifier, theirs.shape[-1], "teacher-classifier")
    height, width = (min(ours.shape[i], theirs.shape[i]) for i in (1, 2))
    few = connect.reduced(theirs.shape[-1], reduction)
    projector = Projector(few, theirs.shape[-1], ours.dtype)

    def init(key: Array, inputs: Array) -> Variables:
        own = dict(student.init(key, inputs))
        own["params"] = _put(own["params"], student_classifier, None)
        beside = projector.init(key, jnp.zeros(ours.shape, ours.dtype))
        return together({"student": own, "projector": dict(beside)}) | {REUSED: _zeros(layer)}

    def forward(
        variables: Variables, inputs: Array, train: bool = False, key: Array | None = None
    ) -> tuple[Outputs, Variables]:
        own, beside = part(variables, "student"), part(variables, "projector")
        # It must be there for the student to speak; nobody hears what it says.
        own["params"] = _put(own["params"], student_classifier, _zeros(spare))
        said, collections = student.forward(own, inputs, train=train, key=key)
        maps = connect.pool_to(said.features[tap], height, width)
        projected, statistics = projector.apply(beside, maps, train, mutable=["batch_stats"])
        pooled = mean_of_places(projected)
        last = jax.lax.stop_gradient(variables[REUSED])
        updated = together({"student": collections, "projector": dict(statistics)})
        updated[REUSED] = variables[REUSED]
        features = {**said.features, PROJECTED: projected, "pooled": pooled}
        return Outputs(connect.dense(last, pooled), features), updated

    def adopts(variables: Variables) -> Variables:
        return {REUSED: dict(_get(variables["params"], teacher_classifier))}

    return Model(init, forward, adopts=adopts)


def _last(model: Model, shape: tuple[int, ...], who: Any) -> tuple[Variables, str, Any]:
    """(the variables, the name of the last map, the map), as shapes."""
    example = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), example)
    said = jax.eval_shape(lambda v, x: model.forward(v, x)[0], variables, example)
    (name,) = published("last", said, who)
    found = said.features[name]
    require(
        len(found.shape) == 4,
        f"classifier teacher: the {who}'s {name} is of shape {found.shape[1:]}, and it needs a map "
        "[height, width, channels]: choose another network, or set classifier to own",
    )
    return variables, name, found


def _get(tree: Any, path: str) -> Any:
    for name in path.split("/"):
        tree = tree[name]
    return tree


def _put(tree: Any, path: str, node: Any) -> Any:
    """A copy with another node at a path; None: without one."""
    name, _, rest = path.partition("/")
    if rest:
        return {**tree, name: _put(tree[name], rest, node)}
    others = {key: child for key, child in tree.items() if key != name}
    return others if node is None else {**others, name: node}


def _zeros(layer: Any) -> Any:
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), dict(layer))
