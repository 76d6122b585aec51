"""Published settings: the numbers as their sources have them, by name, by pair and by flag."""

import dataclasses

import pytest
from test_flags import parse, refused
from tiny_experiment import fake_data, tiny

import kd_jax
from kd_jax import jobs
from kd_jax.augment import Augment
from kd_jax.config import Distill
from kd_jax.distill import TERMS
from kd_jax.distill.pairs import R50_MV2, R56_R20, V13_MV2
from kd_jax.distill.presets import PRESETS, preset
from kd_jax.errors import UsageError
from kd_jax.forward import from_linen
from kd_jax.models import MODELS

NETWORKS = [from_linen(MODELS[name].build(100, "float32")) for name in ("resnet14", "resnet8")]

# {entry: (hard weight, {term: (weight, temperature)})}, of no pair.
NUMBERS = {
    "kd": (0.1, {"kd": (0.9, 4.0)}),
    "logits": (1.0, {"logits": (0.1, None)}),
    "dkd": (1.0, {"dkd": (1.0, 4.0)}),
    "nkd": (1.0, {"nkd": (1.0, 3.0)}),
    "wsld": (1.0, {"wsld": (2.25, 4.0)}),
    "lskd": (0.1, {"lskd": (9.0, 2.0)}),
    "ctkd": (0.1, {"ctkd": (0.9, None)}),
    "dist": (1.0, {"dist": (2.0, 4.0)}),
    "mlkd": (0.1, {"mlkd": (0.9, None)}),
    "deit_hard": (0.5, {"deit_hard": (0.5, None)}),
    "deit_soft": (0.9, {"deit_soft": (0.1, 3.0)}),
    "funmatch": (0.0, {"kd": (1.0, 1.0)}),
    "tfkd_self": (0.05, {"tfkd_self": (47.5, 6.0)}),
    "tfkd_virtual": (0.9, {"tfkd_virtual": (10.0, 20.0)}),
    "uskd": (1.0, {"uskd": (1.0, None)}),
    "fitnet": (1.0, {"fitnet": (100.0, None)}),
    "fitnet+kd": (1.0, {"fitnet": (100.0, None), "kd": (1.0, 4.0)}),
    "at": (1.0, {"at": (1000.0, None)}),
    "at+kd": (1.0, {"at": (1000.0, None), "kd": (1.0, 4.0)}),
    "sp": (1.0, {"sp": (3000.0, None)}),
    "sp+kd": (1.0, {"sp": (3000.0, None), "kd": (1.0, 4.0)}),
    "cc": (1.0, {"cc": (0.02, None)}),
    "vid": (1.0, {"vid": (1.0, None)}),
    "vid+kd": (1.0, {"vid": (1.0, None), "kd": (1.0, 4.0)}),
    "rkd": (1.0, {"rkd": (1.0, None)}),
    "pkt": (1.0, {"pkt": (30000.0, None)}),
    "ft": (1.0, {"ft": (200.0, None)}),
    "nst": (1.0, {"nst": (50.0, None)}),
    "crd": (1.0, {"crd": (0.8, 0.07)}),
    "crd+kd": (1.0, {"crd": (0.8, 0.07), "kd": (1.0, 4.0)}),
    "kdsvd": (1.0, {"kdsvd": (1.0, None)}),
    "ofd": (1.0, {"ofd": (1e-3, None)}),
    "srrl": (1.0, {"srrl": (1.0, None)}),
    "srrl+kd": (1.0, {"srrl": (1.0, None), "kd": (1.0, 4.0)}),
    "mgd": (1.0, {"mgd": (0.0012, None)}),
    "simkd": (0.0, {"simkd": (1.0, None)}),
    "byot": (0.9, {"byot": (1.0, 3.0)}),
    "reviewkd": (1.0, {"reviewkd": (5.0, None)}),
    "catkd": (1.0, {"catkd": (15.0, None)}),
    "nd+kd": (1.0, {"nd": (2.0, None), "kd": (1.0, 4.0)}),
    "nd+dkd": (1.0, {"nd": (3.5, None), "dkd": (1.0, 4.0)}),
    "nd+dist": (1.0, {"nd": (1.0, None), "dist": (2.0, 4.0)}),
    "nd+reviewkd": (1.0, {"nd": (1.0, None), "reviewkd": (1.2, None)}),
}


def test_the_table_has_the_published_weights_and_temperatures():
    found = {}
    for name in PRESETS:
        fields = preset(name)
        terms = fields["terms"].items()
        numbers = {n: (t.weight, vars(t).get("temperature")) for n, t in terms}
        found[name] = (fields["hard_weight"], numbers)
    assert found == NUMBERS


@pytest.mark.parametrize("name", PRESETS)
def test_an_entry_makes_a_stage_and_names_its_source(name):
    entry, fields = PRESETS[name], preset(name)
    stage = Distill(**fields)
    assert stage.terms == entry.terms
    assert "https://" in entry.source
    assert (set(name.split("+")) if name != "funmatch" else {"kd"}) == set(entry.terms)
    for term, value in entry.terms.items():
        assert type(value) is type(TERMS[term])


@pytest.mark.parametrize("name", PRESETS)
def test_the_settings_of_each_pair_can_be_taken(name):
    for pair, changes in PRESETS[name].pairs.items():
        terms = preset(name, *pair)["terms"]
        assert changes.keys() <= terms.keys()
        for term, fields in changes.items():
            assert {f: getattr(terms[term], f) for f in fields} == fields


def test_a_pair_is_known_by_names_or_configs_and_others_get_the_general_values():
    beta = lambda *pair: preset("dkd", *pair)["terms"]["dkd"].beta  # noqa: E731
    assert beta(*R56_R20) == 2.0
    assert beta(*(MODELS[name] for name in R56_R20)) == 2.0
    assert beta(*V13_MV2) == 6.0
    assert beta() == beta("resnet20", "resnet56") == beta("resnet56") == 8.0
    wider = dataclasses.replace(MODELS["resnet20"], width=2.0)
    assert beta("resnet56", wider) == 8.0
    lskd = preset("lskd", *R50_MV2)["terms"]["lskd"]
    assert (lskd.weight, lskd.temperature) == (1.0, 3.0)
    catkd = preset("catkd", *R50_MV2)["terms"]["catkd"]
    assert (catkd.weight, catkd.normalise, catkd.resolution) == (40.0, True, 2)
    both = preset("nd+dkd", *R50_MV2)["terms"]
    assert (both["nd"].weight, both["dkd"].alpha, both["dkd"].beta) == (1.0, 0.5, 8.0)


@pytest.mark.parametrize("name", PRESETS)
def test_an_entry_fits_the_networks_of_the_benchmark(name):
    """Its features are there, and connectors can be made."""
    data = fake_data("cifar100", 64)
    stage = Distill(batch=32, **preset(name))
    jobs.program_of(stage, NETWORKS[1], data, NETWORKS[0], 1)


def test_names_may_come_in_any_order():
    assert preset("kd+at") == preset("at+kd") == kd_jax.preset("at+kd")


def test_funmatch_sets_mixup_and_leaves_the_other_augmentations():
    assert preset("funmatch")["augment"] == Augment(mixup=1.0)
    assert preset("funmatch", augment=Augment(crop=4))["augment"] == Augment(crop=4, mixup=1.0)
    assert "augment" not in preset("kd", augment=Augment(crop=4))


def test_mlkd_brings_a_second_view():
    given = Augment(crop=4, flip=True)
    fields = preset("mlkd", augment=given)
    assert fields["second_view"] == Augment(crop=4, flip=True, operations=2)
    assert fields["second_hard_weight"] == fields["hard_weight"] == 0.1
    assert "augment" not in fields
    stage = Distill(augment=given, **fields)
    assert stage.looking_twice == ("mlkd",)
    one = dataclasses.replace(stage.terms["mlkd"], strong=False)
    assert not Distill(terms={"mlkd": one}).looking_twice


def test_unknown_names_are_told_with_the_nearest():
    for call, said in (
        (lambda: preset("dkdd"), r"preset 'dkdd' is unknown\. Did you mean 'dkd'"),
        (lambda: preset("rkd+kd"), r"preset 'rkd\+kd' is none of the published settings: set "),
        (lambda: preset("kd", "resnet65"), r"teacher 'resnet65' is no model\. Did you mean"),
        (lambda: preset("kd", None, "x"), r"student 'x' is no model\."),
    ):
        with pytest.raises(UsageError, match=said):
            call()


# By flag -------------------------------------------------------------------------------------


def given(*arguments, **changes):
    return parse(*arguments, preset=tiny(**changes)).stages["distill"]


def test_a_stage_s_own_name_is_the_flag():
    stage = given("--distill", "at+kd")
    assert {"hard_weight": stage.hard_weight, "terms": stage.terms} == preset("at+kd")
    before = tiny().stages["distill"]
    assert dataclasses.replace(stage, hard_weight=0.1, terms=before.terms) == before


def test_other_flags_change_single_fields_wherever_they_stand():
    words = [("--distill", "dkd"), ("--distill.terms.dkd.beta", "3"), ("--distill.epochs", "5")]
    words += [("--distill.hard-weight", "0.5"), ("--distill.terms", "dkd+logits")]
    for order in (words, words[::-1]):
        stage = given(*[word for pair in order for word in pair])
        assert (stage.hard_weight, stage.epochs) == (0.5, 5)
        assert stage.terms["dkd"] == dataclasses.replace(PRESETS["dkd"].terms["dkd"], beta=3.0)
        assert stage.terms["logits"] == TERMS["logits"]
    assert given("--distill", "funmatch", "--distill", "dkd") == given("--distill", "dkd")


def test_the_pair_is_that_of_the_models_as_all_flags_make_them():
    def beta(*more):
        return given("--distill", "dkd", *more).terms["dkd"].beta

    pair = ("--teacher", "resnet56", "--student", "resnet20")
    assert beta(*pair) == 2.0
    assert beta(*pair, "--student.width", "2") == 8.0
    assert beta("--teacher", "vgg13", "--student", "vgg13", "--student.convs", *"11111") == 6.0
    alone = {name: stage for name, stage in tiny().stages.items() if name != "prune"}
    words = ("--distill", "dkd", *pair, "--distill.model", "teacher")
    assert given(*words, stages=alone).terms["dkd"].beta == 8.0
    helped = (*pair, "--assistant", "resnet32", "--distill.model", "assistant")
    assert given("--distill", "dkd", *helped, stages=alone).terms["dkd"].beta == 8.0
    helped = (*helped, "--teacher", "resnet110")
    assert given("--distill", "dkd", *helped, stages=alone).terms["dkd"].beta == 2.0
    named = {"teacher": MODELS["wrn_40_2"], "student": MODELS["wrn_16_2"]}
    assert given("--distill", "dkd", **named).terms["dkd"].beta == 6.0


def test_pruning_takes_them_too_with_a_teacher():
    stage = parse("--prune", "dkd", "--prune.teacher", "train").stages["prune"]
    assert list(stage.terms) == ["dkd"]
    assert refused("--prune", "dkd").startswith("--prune.teacher is empty, but the terms dkd")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--distill dkdd", "--distill 'dkdd' is unknown. Did you mean 'dkd'?"),
        ("--distill kd+", "--distill 'kd+' is unknown. "),
        (
            "--distill ab",
            "--distill 'ab' is none of the published settings: set terms to ab, and their weights",
        ),
        ("--distill", f"--distill takes one of {', '.join(PRESETS)}, but got none"),
        ("--distill kd at", f"--distill takes one of {', '.join(PRESETS)}, but got 'kd' 'at'"),
        ("--train kd", "unknown flag --train."),
        ("--distill kd --distill.terms.dkd.beta 2", "unknown flag --distill.terms.dkd.beta."),
    ],
)
def test_mistakes_are_named_by_their_flag(arguments, said):
    assert refused(*arguments.split()).startswith(said)
