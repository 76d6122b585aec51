"""Made-up lessons: two networks' logits and features on a batch, for tests of any term."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.distill import Lesson
from kd_jax.forward import Outputs

# As a student and a wider teacher with three stages have them.
STUDENT = {"stem": (8, 8, 3), "stage1": (8, 8, 3), "stage2": (4, 4, 5), "stage3": (2, 2, 6)}
TEACHER = {"stem": (8, 8, 4), "stage1": (8, 8, 4), "stage2": (4, 4, 7), "stage3": (2, 2, 8)}
HEADS, TOKENS = 2, 5  # of the attention of each stage
CLASSES, BATCH = 6, 8


def outputs(shapes, phase, dtype=np.float32, classes=CLASSES, batch=BATCH):
    """Logits and features that are smooth functions of their place; `pooled` is the mean of the
    last stage, and stageI_pre lies both below and above zero. As many stages have attention."""
    features = {}
    for i, (name, shape) in enumerate(shapes.items()):
        k = np.arange(batch * np.prod(shape)).reshape(batch, *shape)
        pre = np.sin((0.37 + 0.04 * i) * k + phase)
        features |= {f"{name}_pre": pre, name: np.maximum(pre, 0)}
        features |= attention(i, shape[-1], phase, batch) if i else {}
    features["pooled"] = features[name].mean(axis=(1, 2))
    k = np.arange(batch * classes).reshape(batch, classes)
    logits = 3 * np.sin(0.7 * k + phase)
    return jax.tree.map(lambda x: jnp.asarray(x, dtype), Outputs(logits, features))


def attention(i, width, phase, batch=BATCH):
    """Scores and values, of heads of a width, of a Transformer's block i."""
    wave = lambda *shape: np.sin((0.29 + 0.05 * i) * np.arange(np.prod(shape)) + phase)  # noqa: E731
    scores = 3 * wave(batch, HEADS, TOKENS, TOKENS)
    values = wave(batch, HEADS, TOKENS, width)
    return {
        f"attention{i}_scores": scores.reshape(batch, HEADS, TOKENS, TOKENS),
        f"attention{i}_values": values.reshape(batch, HEADS, TOKENS, width),
    }


def params(said, classes=CLASSES):
    """A classifier on top of `pooled`."""
    width = said.features["pooled"].shape[-1]
    kernel = np.cos(0.3 * np.arange(width * classes)).reshape(width, classes)
    return {"classifier": {"kernel": jnp.asarray(kernel, jnp.float32), "bias": jnp.zeros(classes)}}


@functools.cache
def lesson(dtype=np.float32, epoch=0.5, scale=1.0):
    student, teacher = outputs(STUDENT, 0.3, dtype), outputs(TEACHER, 1.1, dtype)
    student, teacher = jax.tree.map(lambda x: x * jnp.asarray(scale, x.dtype), (student, teacher))
    labels = np.arange(BATCH) % CLASSES
    return Lesson(
        student=student,
        teacher=teacher,
        targets=jnp.eye(CLASSES)[labels],
        labels=jnp.asarray(labels),
        ids=jnp.arange(BATCH) * 3,
        epoch=jnp.float32(epoch),
        key=jax.random.key(1),
        student_params=params(student),
        teacher_params=params(teacher),
    )


LABELS = jnp.asarray(np.where(np.arange(3 * BATCH) % 3, -1, np.arange(3 * BATCH) // 3 % CLASSES))
"""By id, of the examples in `lesson`."""


def own(term, given, seed=0):
    """What a term carries at the first step."""
    return term.init(jax.random.key(seed), given.student, given.teacher, LABELS)
