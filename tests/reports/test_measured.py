from depthlab.reports.measured import scores_table


def test_depths_of_labels_unless_there_are_a_thousand():
    few, many = ({f"val/depth/label/{number}": 2.5 for number in range(size)} for size in (20, 1000))
    assert "| mean depth where the label is 19 | 2.50 |" in scores_table("top_constituents", {"val/score": 0.5, **few})
    assert scores_table("word_content", {"val/score": 0.5, **many}).splitlines()[2:] == ["| score (%) | 50.00 |"]
