"""Tests of compare.py on made-up times: nothing here was measured.

    python test_compare.py
"""

import unittest

import compare

MADE_UP = "made up for a test"


def report(implementation, rows, **more):
    head = dict(format="rowscan-bench/1", implementation=implementation, adapter=MADE_UP, driver="0.0", commit="abc")
    return head | dict(versions={"x": "1"}, command="none", timer="none", software=False, rows=rows) | more


def row(case, ms=None, family="matmul", direction="forward", **more):
    return dict(family=family, direction=direction, case=case) | ({"ms": ms} if ms else {}) | more


OURS = report(
    "rowscan",
    [
        row("both", 2.0, floor_ms=1.0, compared="16 of 99 rows"),
        row("alone", 3.0, floor_ms=2.0, compared="all"),
        row("wrong", failed="y[3]: got 1, expected 2"),
        row("tiny 98x128", 50.0, family="step", direction="training", floor_ms=25.0, facts={"images": 128}),
    ],
    roof={"copy_GB/s": 1.0},
)
THEIRS = report(
    "cuda",
    [
        row("both", 4.0, reference="cuBLAS f32"),
        row("both", 1.0, reference="cuBLAS f16"),
        row("wrong", 1.0, reference="cuBLAS f32"),
        row("theirs only", 1.0, reference="cuBLAS f32"),
        row("tiny 98x128", 100.0, family="step", direction="training", reference="PyTorch eager f32"),
    ],
)


class Compare(unittest.TestCase):
    def test_pairs_are_joined_by_family_direction_and_case(self):
        found = list(compare.lines(OURS, [THEIRS]))
        both = [line for line in found if line["key"][2] == "both"]
        self.assertEqual([(l["reference"], l["ratio"], l["to_floor"]) for l in both], [("cuBLAS f32", 0.5, 2.0), ("cuBLAS f16", 2.0, 2.0)])
        self.assertIn("16 of 99 rows", both[0]["note"])

    def test_nothing_is_left_out(self):
        notes = {line["key"][2]: line for line in compare.lines(OURS, [THEIRS])}
        self.assertEqual(notes["alone"]["reference"], "none")
        self.assertIn("expected 2", notes["wrong"]["note"])
        self.assertIsNone(notes["wrong"]["ratio"])
        self.assertIn("not measured by us", notes["theirs only"]["note"])

    def test_table_has_head_sections_and_sum(self):
        text = compare.table(OURS, [THEIRS])
        for part in (MADE_UP, "driver 0.0", "commit abc", "## matmul", "## step", "2560.0 images/s, theirs 1280.0"):
            self.assertIn(part, text)
        self.assertIn("| both | forward | cuBLAS f32 | 2.000 | 4.000 | 1.000 | 0.50× | 2.00× | oracle: 16 of 99 rows |", text)
        self.assertIn("3 pairs: ours ahead in 2, behind in 1.", text)
        widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
        self.assertEqual(widths, {10})

    def test_warns_of_software_and_of_two_adapters(self):
        self.assertIn("say nothing about a GPU", compare.table(OURS | {"software": True}, [THEIRS]))
        self.assertIn("not all files are from one adapter", compare.table(OURS, [THEIRS | {"adapter": "another"}]).lower())

    def test_several_of_ours_are_one_if_they_belong_together(self):
        ours, theirs = compare.split([THEIRS, OURS, OURS])
        self.assertEqual((len(ours["rows"]), theirs), (2 * len(OURS["rows"]), [THEIRS]))
        with self.assertRaisesRegex(ValueError, "commit"):
            compare.split([OURS, OURS | {"commit": "def"}])
        with self.assertRaisesRegex(ValueError, "rowscan bench"):
            compare.split([THEIRS])

    def test_a_foreign_file_is_refused(self):
        import json, pathlib, tempfile

        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "x.json"
            path.write_text(json.dumps({"format": "something"}))
            with self.assertRaisesRegex(ValueError, "rowscan-bench/1"):
                compare.load(path)


if __name__ == "__main__":
    unittest.main()
