from depthlab.reports.measured import measured_table, scores_table


def test_depths_of_labels_unless_there_are_a_thousand():
    few, many = ({f"val/depth/label/{number}": 2.5 for number in range(size)} for size in (20, 1000))
    assert "| mean depth where the label is 19 | 2.50 |" in scores_table("top_constituents", {"val/score": 0.5, **few})
    assert scores_table("word_content", {"val/score": 0.5, **many}).splitlines()[2:] == ["| score (%) | 50.00 |"]


def test_a_language_model_is_shown_by_source_with_intervals():
    values = {"accuracy/mlm": 0.3564, "accuracy_low/mlm": 0.331, "accuracy_high/mlm": 0.3821, "loss/mlm": 3.98}
    values |= {"accuracy/mlm_mask_original": 0.95, "documents/seen": 31.0, "documents/effective": 3.26}
    of_novels = {"accuracy/mlm": 0.361, "documents/seen": 2.0}
    tagged = {f"test/{tag}": value for tag, value in values.items()}
    tagged |= {f"test/source/novels/{tag}": value for tag, value in of_novels.items()}
    printed = measured_table(tagged | {"val/accuracy/mlm": 0.5}, "", "test")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in printed.splitlines() if line[:1] == "|"]
    assert ["MLM accuracy (%)", "35.64 [33.10, 38.21]", "55.4", "57.1", "57.4"] in rows
    assert ["documents", "31", "-", "-", "-"] in rows
    assert ["novels", "36.10", "-", "-", "-", "-", "2", "-"] in rows
    assert ["all", "35.64 [33.10, 38.21]", "-", "95.00", "3.98", "-", "31", "3.3"] in rows
    assert rows[0][0] == "test documents" and "50.00" not in printed
