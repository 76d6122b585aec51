import pytest
from calls import refused


def test_it_shows_groups_and_what_is_kept(call):
    status, out, error = call("inspect", "cifar10_resnet", "--student", "resnet8")
    assert (status, error) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    # 9·16 entries of the kernel that makes a channel, as many that read it, and a norm's two.
    assert ["stage1_block0/conv1/kernel:3", "16", "290", "3"] in lines
    assert "kept: classifier/bias:0 and 1 more is an axis of the logits (outputs)" in out


def test_the_teacher_too_and_a_plot(call, tmp_path):
    file = tmp_path / "groups.png"
    status, out, _ = call("inspect", "digits", "--model=teacher", "--smoke", "--draw", file)
    assert status == 0
    assert "dense1/kernel:1" in out
    assert file.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "inspect takes an experiment's name first"),
        (["nothing"], "unknown experiment"),
        (["digits", "--model", "other"], "--model other: digits has no such network, but teacher"),
        (["digits", "--modle", "student"], "--modle"),
    ],
)
def test_mistakes(call, arguments, message):
    assert message in refused(call, "inspect", *arguments)


def test_help(call):
    status, out, _ = call("inspect", "--help")
    assert status == 0
    assert "--draw FILE" in out
