import kept_programs


def test_above_a_limit_all_of_them_go(tmp_path):
    for name in "ab":
        (tmp_path / name).write_bytes(bytes(10))
    kept_programs.prune(tmp_path, limit=20)
    assert len(list(tmp_path.iterdir())) == 2
    kept_programs.prune(tmp_path, limit=19)
    assert not list(tmp_path.iterdir())
    kept_programs.prune(tmp_path / "none", limit=0)
