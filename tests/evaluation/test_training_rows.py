import pytest

from rdpjax.errors import UserError
from rdpjax.evaluation.training_rows import training_rows


def test_ids_decide_where_there_are_ids(toy):
    table = toy(100)
    ids = [str(i) for i in range(100)]
    left = training_rows(table, table[:20], ids, ids[:20])
    assert left.equals(table[20:].reset_index(drop=True))


def test_equal_rows_go_together_without_ids(toy):
    table = toy(100)
    table.loc[50] = table.loc[3]
    left = training_rows(table, table[:20][table.columns[::-1]])
    assert len(left) == 79


@pytest.mark.parametrize(("held", "message"), [(slice(0), "none of"), (slice(None), "all of it")])
def test_files_that_do_not_belong_together(toy, held, message):
    table = toy(60)
    with pytest.raises(UserError, match=message):
        training_rows(table, table[held])
