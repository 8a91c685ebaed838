//! Report of a table: our results beside the paper's in markdown, and whether the cells rank in the paper's order.

use std::fmt::Write;

use super::table::{Cell, Table};

/// Scores of one cell in percent: for each finished seed those of [`Table::measures`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CellScores(pub Vec<Vec<f64>>);

impl CellScores {
    /// The scores of one measure, seed by seed.
    pub fn of(&self, measure: usize) -> Vec<f64> {
        self.0.iter().filter_map(|scores| scores.get(measure).copied()).collect()
    }
}

/// What a model of a cell costs: the columns #P and #F of the paper.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CellCost {
    /// Parameters of the classifier.
    pub parameters: usize,
    /// Additions and multiplications of a forward pass of one sample.
    pub flops: f64,
}

/// Mean and sample standard deviation (÷ n−1) of the scores. The deviation of a single score is 0. `None` without
/// scores.
pub fn mean_deviation(scores: &[f64]) -> Option<(f64, f64)> {
    let n = scores.len() as f64;
    let mean = scores.iter().sum::<f64>() / n;
    let squares = scores.iter().map(|s| (s - mean).powi(2)).sum::<f64>();
    (!scores.is_empty()).then(|| (mean, (squares / (n - 1.0).max(1.0)).sqrt()))
}

/// The difference of two cells that the paper compares, in points of the first measure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// Indices of the cells: the first minus the second.
    pub cells: (usize, usize),
    /// In the paper.
    pub paper: f64,
    /// Here, of means over seeds.
    pub here: f64,
    /// Standard error of `here`: √(s₁²/n₁ + s₂²/n₂) with the sample deviations s of n seeds each. `None` where a
    /// cell has one seed, whose deviation is unknown.
    pub error: Option<f64>,
}

impl Difference {
    /// Whether the difference here is larger than two standard errors.
    pub fn is_clear(&self) -> bool {
        self.error.is_some_and(|error| self.here.abs() > 2.0 * error)
    }
}

/// Every pair of finished cells. Each cell is (its index, accuracy in the paper, scores here).
pub fn differences(cells: &[(usize, f64, Vec<f64>)]) -> Vec<Difference> {
    let mut found = Vec::new();
    for (i, (index, paper, scores)) in cells.iter().enumerate() {
        for (other_index, other_paper, others) in &cells[i + 1..] {
            let (Some((mean, s)), Some((other, t))) = (mean_deviation(scores), mean_deviation(others)) else {
                continue;
            };
            let known = scores.len() > 1 && others.len() > 1;
            let error = (s * s / scores.len() as f64 + t * t / others.len() as f64).sqrt();
            found.push(Difference {
                cells: (*index, *other_index),
                paper: paper - other_paper,
                here: mean - other,
                error: known.then_some(error),
            });
        }
    }
    found
}

/// What `pairs` say of the order of `cells`: a sentence, and the differences if chance is known of all.
fn order(cells: &[Cell], pairs: &[Difference]) -> String {
    let ordered: Vec<_> = pairs.iter().filter(|pair| pair.paper != 0.0).collect();
    let of = |same: bool| ordered.iter().filter(move |pair| (pair.paper * pair.here > 0.0) == same);
    let (all, same) = (ordered.len(), of(true).count());
    if ordered.is_empty() {
        return "\nNothing to compare yet.\n".into();
    }
    let stand = match same == all {
        true => format!("\nThe order agrees with the paper's: {same} of {all} pairs stand as there."),
        false => format!("\nThe order does not agree with the paper's: {same} of {all} pairs stand as there."),
    };
    if pairs.iter().any(|pair| pair.error.is_none()) {
        return format!("{stand} One seed does not tell how far chance moves a cell.\n");
    }
    let clear = |same| of(same).filter(|pair| pair.is_clear()).count();
    let (agree, reverse) = (clear(true), clear(false));
    let mut text = format!(
        "{stand} Of the differences that are larger than two standard errors {agree} stand as there and {reverse} the \
         other way; the others tell nothing apart.\n\n\
         | difference | paper | here | standard error | beyond two |\n|---|---|---|---|---|\n"
    );
    for pair in pairs {
        let [first, second] = [pair.cells.0, pair.cells.1].map(|i| &cells[i].label);
        let (error, clear) = (pair.error.unwrap_or_default(), if pair.is_clear() { "yes" } else { "no" });
        let (paper, here) = (pair.paper, pair.here);
        let _ = writeln!(text, "| {first} − {second} | {paper:+.1} | {here:+.2} | {error:.2} | {clear} |");
    }
    text
}

/// `m ± s`, or `m` of one score.
fn spread(scores: &[f64]) -> Option<String> {
    let (mean, deviation) = mean_deviation(scores)?;
    Some(if scores.len() > 1 { format!("{mean:.2} ± {deviation:.2}") } else { format!("{mean:.2}") })
}

/// The table in markdown. `scores` has one entry per cell. `costs` likewise, or it is empty and these columns are left
/// out. `scale` is a sentence about the size of the experiment.
pub fn markdown(table: &Table, scores: &[CellScores], costs: &[CellCost], scale: &str) -> String {
    let mut text = format!("## Table {}: {}\n\n{scale}\n", table.name, table.title);
    for group in table.groups() {
        let of_group = |(i, cell): (usize, &Cell)| (cell.group == group).then_some(i);
        let cells: Vec<usize> = table.cells.iter().enumerate().filter_map(of_group).collect();
        let mut head = vec![group.to_owned()];
        head.extend(table.measures.iter().flat_map(|m| [format!("paper, {}", m.paper), format!("here, {}", m.here)]));
        head.push("seeds".into());
        head.extend((!costs.is_empty()).then(|| ["#P, M".to_owned(), "#F, M".into()]).into_iter().flatten());
        let _ = writeln!(text, "\n| {} |\n|{}", head.join(" | "), "---|".repeat(head.len()));
        for &i in &cells {
            let (cell, scores) = (&table.cells[i], &scores[i]);
            let mut row = vec![cell.label.clone()];
            for measure in 0..table.measures.len() {
                row.push(cell.paper.get(measure).map_or_else(|| "–".into(), |paper| format!("{paper:.1}")));
                row.push(spread(&scores.of(measure)).unwrap_or_else(|| "not run".into()));
            }
            row.push(scores.0.len().to_string());
            let cost = costs
                .get(i)
                .map(|cost| [format!("{:.3}", cost.parameters as f64 / 1e6), format!("{:.1}", cost.flops / 1e6)]);
            row.extend(cost.into_iter().flatten());
            let _ = writeln!(text, "| {} |", row.join(" | "));
        }
        let known = cells.iter().filter_map(|&i| Some((i, *table.cells[i].paper.first()?, scores[i].of(0))));
        text.push_str(&order(&table.cells, &differences(&known.collect::<Vec<_>>())));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deviations_are_those_of_a_sample() {
        assert_eq!(mean_deviation(&[]), None);
        assert_eq!(mean_deviation(&[70.0]), Some((70.0, 0.0)));
        assert_eq!(mean_deviation(&[1.0, 2.0, 3.0]), Some((2.0, 1.0)));
    }

    #[test]
    fn differences_are_clear_beyond_two_standard_errors() {
        let of = |first: &[f64], second: &[f64]| {
            let found = differences(&[(3, 80.0, first.to_vec()), (5, 81.0, second.to_vec())]);
            assert!(found.len() < 2);
            found.first().copied()
        };
        // deviations 1 and 1, of three seeds each: the standard error is √(2/3)
        let pair = of(&[9.0, 10.0, 11.0], &[7.0, 8.0, 9.0]).unwrap();
        assert_eq!((pair.cells, pair.paper, pair.here, pair.is_clear()), ((3, 5), -1.0, 2.0, true));
        assert!((pair.error.unwrap() - (2.0f64 / 3.0).sqrt()).abs() < 1e-12);
        assert!(!of(&[9.0, 10.0, 11.0], &[8.0, 9.0, 10.0]).unwrap().is_clear());
        let unknown = of(&[10.0], &[1.0, 2.0]).unwrap();
        assert!(unknown.error.is_none() && !unknown.is_clear());
        assert_eq!(of(&[10.0], &[]), None);
    }

    fn single(scores: &[&[f64]]) -> Vec<CellScores> {
        scores.iter().map(|seeds| CellScores(seeds.iter().map(|score| vec![*score]).collect())).collect()
    }

    #[test]
    fn tables_say_what_was_not_run() {
        let table = Table::named("6").unwrap();
        let text = markdown(&table, &single(&[&[50.0, 52.0], &[53.0], &[], &[54.0]]), &[], "Tiny.");
        assert!(
            text.contains("| AR | 83.7 | 51.00 ± 1.41 | 2 |\n") && text.contains("| local MAE | 84.2 | not run | 0 |")
        );
        assert!(text.contains("agrees") && text.contains("3 of 3") && text.contains("One seed"), "{text}");
        let text = markdown(&table, &single(&[&[50.0], &[49.0], &[], &[54.0]]), &[], "Tiny.");
        assert!(text.contains("does not agree with the paper's: 2 of 3 pairs stand as there. One seed"), "{text}");
        let text = markdown(&table, &single(&[&[50.0, 52.0], &[53.0, 54.0], &[51.0, 51.0], &[]]), &[], "Tiny.");
        for part in [
            "does not agree with the paper's: 1 of 3 pairs stand as there.",
            "larger than two standard errors 1 stand as there and 1 the other way",
            "| AR − MAE | -0.4 | -2.50 | 1.12 | yes |\n",
            "| AR − local MAE | -0.5 | +0.00 | 1.00 | no |\n",
            "| MAE − local MAE | -0.1 | +2.50 | 0.50 | yes |\n",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn tables_of_clouds_have_votes_and_costs() {
        let table = Table::named("11").unwrap();
        let mut scores = single(&[&[], &[], &[80.0, 82.0], &[], &[], &[], &[83.0], &[84.0]]);
        scores[2] = CellScores(vec![vec![80.0, 81.0], vec![82.0, 83.0]]);
        let costs = vec![CellCost { parameters: 450_000, flops: 12e6 }; 8];
        let text = markdown(&table, &scores, &costs, "Tiny.");
        for row in [
            "| Mamba3D | paper, ModelNet40 overall accuracy % | here, top-1 % | paper, vote | here, vote of 10 views | \
             seeds | #P, M | #F, M |\n|---|---|---|---|---|---|---|---|\n",
            "| Mamba3D | 93.4 | 81.00 ± 1.41 | 94.1 | 82.00 ± 1.41 | 2 | 0.450 | 12.0 |\n",
            "| HybridNet + Point-MAE | – | 83.00 | – | not run | 1 | 0.450 | 12.0 |\n",
        ] {
            assert!(text.contains(row), "{row}{text}");
        }
    }
}
