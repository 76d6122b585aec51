"""What distillation terms are told in a step, and what they carry from one to the next."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kd_jax import optim as optim_lib
from kd_jax import randomness
from kd_jax.batch import Batch
from kd_jax.distill import Lesson, Own, Term, View
from kd_jax.ensembles import MEMBERS
from kd_jax.errors import UsageError
from kd_jax.forward import Model, Outputs
from kd_jax.mutual import PEERS
from kd_jax.objective import Settings
from kd_jax.program import VARIANTS, Program
from kd_jax.state import TrainState
from kd_jax.teacher import teach

Array = jax.Array


def logits_alone(terms: Mapping[str, Term]) -> bool:
    """Whether the terms read nothing of a network but its logits."""
    return all(term.logits_alone for term in terms.values())


@functools.lru_cache(maxsize=8)
def outputs_of(model: Model, shape: tuple[int, ...], batch: int, train: bool) -> Outputs:
    """What a network says of a batch of float32 examples of a shape, as shapes."""
    inputs = jax.ShapeDtypeStruct((batch, *shape), jnp.float32)
    key = jax.random.key(0)

    def forward(inputs: Array, key: Array) -> Outputs:
        return model.forward(model.init(key, inputs), inputs, train=train, key=key)[0]

    return jax.eval_shape(forward, inputs, key)


def both(program: Program, terms: Mapping[str, Term]) -> tuple[Outputs, Outputs | None]:
    """What student and teacher say of a batch, as shapes; without features if no term reads any."""
    shape, batch = program.spec.shape, program.batch
    if logits_alone(terms):
        said: Any = Outputs(jnp.zeros((batch, program.spec.classes)))
        return said, said
    model = program.model if program.itself else program.teacher
    teacher = model and outputs_of(model, shape, batch, False)
    return outputs_of(program.model, shape, batch, True), teacher


def tapped(program: Program, terms: Mapping[str, Term]) -> Program:
    """The program whose networks show all the features that the terms read.

    Raises UsageError, which begins with a flag's name, where a term can't work with them.
    """
    if logits_alone(terms):
        return program
    student, teacher = both(program, terms)
    of_student = [name for term in terms.values() for name in term.taps()[0]]
    of_teacher = [name for term in terms.values() for name in term.taps()[1]]
    program = dataclasses.replace(
        program,
        model=_showing(program.model, student, of_student),
        teacher=program.teacher and _showing(program.teacher, teacher, of_teacher),
    )
    student, teacher = both(program, terms)
    found: tuple[list[str], list[str]] = ([], [])
    key, nobody = jax.random.key(0), jnp.zeros((1,), jnp.int32)
    for name, term in terms.items():
        try:
            names = term.reads(student, teacher)
            # For what only the shapes tell, such as that no connector can be made.
            jax.eval_shape(lambda key, t=term: t.init(key, student, teacher, nobody), key)
        except UsageError as error:
            raise UsageError(f"terms.{name}.{error}") from None
        for all_names, new in zip(found, names, strict=True):
            all_names += [n for n in new if n not in all_names]
    return dataclasses.replace(program, reads=(*program.reads, *found[1]))


def _showing(model: Model, said: Outputs | None, names: list[str]) -> Model:
    """The network whose features also hold those that are named by a module's path."""
    assert said is not None
    paths = tuple(dict.fromkeys(name for name in names if name not in said.features))
    return model if not paths or model.tapped is None else model.tapped(paths)


def begin(
    program: Program, terms: Mapping[str, Term], seed: Array, labels: Array
) -> dict[str, Own]:
    """{term: what it carries at the first step}, of those that carry anything."""
    student, teacher = both(program, terms)
    owns = {
        name: term.init(randomness.stream(seed, f"term {name}"), student, teacher, labels)
        for name, term in terms.items()
    }
    return {name: own for name, own in owns.items() if jax.tree.leaves(own)}


def lesson(
    program: Program,
    settings: Settings,
    state: TrainState,
    batch: Batch,
    soft: Any,
    second: Batch | None = None,
) -> Lesson:
    """What the terms are told of a step on a prepared batch, before the student says anything.

    `soft` is the teacher's variables, or its Outputs for these inputs, or None; with a `second`
    view of the batch it is no Outputs.
    """
    assert batch.targets is not None, "the batch must be prepared (augment.augment)"
    if program.itself:
        average = state.extra["ema"]
        soft = {"params": average["params"], **average["collections"]}
    said, params = _ask(program, soft, batch.inputs)
    nobody = Outputs(jnp.zeros(()))
    other = None
    if second is not None:
        assert second.targets is not None, "the batch must be prepared (augment.augment)"
        other = View(nobody, _ask(program, soft, second.inputs)[0], second.targets)
    several = said is not None and bool(settings.teacher_weights)
    return Lesson(
        student=nobody,
        teacher=said,
        targets=batch.targets,
        labels=batch.labels,
        ids=batch.ids,
        epoch=state.step.astype(jnp.float32) / program.steps_per_epoch,
        key=randomness.at_step(settings.seed, "terms", state.step),
        teacher_params=params,
        members=said.features[MEMBERS] if said is not None and several else None,
        member_weights=jnp.stack([jnp.float32(w) for w in settings.teacher_weights])
        if several
        else None,
        second=other,
    )


def heard(
    program: Program,
    settings: Settings,
    lesson: Lesson,
    said: Outputs,
    params: Any,
    again: Outputs | None = None,
) -> Lesson:
    """The lesson once the student has spoken, `again` of the second view; to its peers, too, if it
    has any."""
    lesson = dataclasses.replace(lesson, student=said, student_params=params)
    if lesson.second is not None and again is not None:
        second = dataclasses.replace(lesson.second, student=again)
        lesson = dataclasses.replace(lesson, second=second)
    if not program.peers:
        return lesson
    members = jax.lax.all_gather(jax.lax.stop_gradient(said.logits), VARIANTS)
    others = jnp.arange(program.peers) != settings.peer
    weights = others.astype(jnp.float32) / (program.peers - 1)
    return dataclasses.replace(lesson, members=members, member_weights=weights)


def of_each(told: Lesson) -> list[Lesson]:
    """The lesson of each of several networks that learn from one another as one model (see
    mutual.py), the others its members; of any other, its own alone."""
    peers: Any = told.student.features.get(PEERS)
    if peers is None:
        return [told]
    logits = jax.lax.stop_gradient(jnp.stack([said.logits for said in peers]))
    others = (1 - jnp.eye(len(peers))) / (len(peers) - 1)
    return [
        dataclasses.replace(told, student=said, members=logits, member_weights=others[i])
        for i, said in enumerate(peers)
    ]


def own_key(program: Program, settings: Settings, key: Array) -> Array:
    """A key for what shall differ between peers; the first's is that of a student alone."""
    if not program.peers:
        return key
    other = jax.random.fold_in(key, settings.peer)
    data = jnp.where(settings.peer == 0, jax.random.key_data(key), jax.random.key_data(other))
    return jax.random.wrap_key_data(data)


def _ask(program: Program, soft: Any, inputs: Array) -> tuple[Outputs | None, Any]:
    """(the teacher's outputs, its parameters if it is here to be asked)."""
    if soft is None or isinstance(soft, Outputs):
        return jax.lax.optimization_barrier(soft), None
    model = program.model if program.itself else program.teacher
    assert model is not None
    said = teach(model, soft, inputs)
    read = Outputs(said.logits, {name: said.features[name] for name in program.reads})
    read = jax.lax.optimization_barrier(read)
    # The others are not read, but which are a network's stages is told by the names of all.
    return Outputs(read.logits, said.features | read.features), soft["params"]


def move(
    program: Program, settings: Settings, state: TrainState, grads: Any, states: Any
) -> TrainState:
    """What the terms carry after one gradient: what is trained of it is moved by the student's own
    optimizer."""
    owns: dict[str, Own] = state.extra.get("terms", {})
    if not owns:
        return state
    optim = settings.optim
    params: Any = {name: own.params for name, own in owns.items()}
    moments: Any = state.extra["terms_opt_state"]
    updates, moments = optim_lib.transform(optim).update(grads, moments, params)
    rate = optim_lib.learning_rate(optim, program.pace(state.step), program.length)
    params = optax.apply_updates(params, jax.tree.map(lambda u: -rate * u, updates))
    terms = {name: Own(params[name], states[name]) for name in owns}
    extra = {**state.extra, "terms": terms, "terms_opt_state": moments}
    return dataclasses.replace(state, extra=extra)
