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

/// Comparison of the order of the cells, by accuracy, here and in the paper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreement {
    /// Pairs of finished cells whose accuracies differ in the paper.
    pub pairs: usize,
    /// Pairs whose order here is the paper's.
    pub same: usize,
    /// Pairs whose order here is the reverse, by more than the sum of both standard deviations. A cell with one seed
    /// has an unknown deviation, which counts as 0 here: see `deviations`.
    pub reversed: usize,
    /// Whether no cell has exactly one seed, so that every deviation is known.
    pub deviations: bool,
}

/// Compares the order of cells. Each cell is (accuracy in the paper, scores here).
pub fn agreement(cells: &[(f64, Vec<f64>)]) -> Agreement {
    let done: Vec<_> = cells.iter().filter_map(|(paper, s)| Some((*paper, mean_deviation(s)?))).collect();
    let deviations = cells.iter().all(|(_, scores)| scores.len() != 1);
    let mut found = Agreement { pairs: 0, same: 0, reversed: 0, deviations };
    for (i, &(paper, (mean, deviation))) in done.iter().enumerate() {
        for &(other_paper, (other, other_deviation)) in &done[..i] {
            let (theirs, ours) = (paper - other_paper, mean - other);
            if theirs != 0.0 {
                found.pairs += 1;
                found.same += usize::from(theirs * ours > 0.0);
                found.reversed += usize::from(theirs * ours < 0.0 && ours.abs() > deviation + other_deviation);
            }
        }
    }
    found
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
        let known = cells.iter().filter_map(|&i| Some((*table.cells[i].paper.first()?, scores[i].of(0))));
        let found = agreement(&known.collect::<Vec<_>>());
        let Agreement { pairs, same, reversed, deviations } = found;
        let _ = match pairs {
            0 => writeln!(text, "\nNothing to compare yet."),
            _ if same == pairs => writeln!(text, "\nThe order agrees with the paper's ({same} of {pairs} pairs)."),
            _ if !deviations => writeln!(
                text,
                "\nThe order does not agree with the paper's: {same} of {pairs} pairs stand as there. \
                 One seed does not tell how far chance moves a cell."
            ),
            _ => writeln!(
                text,
                "\nThe order does not agree with the paper's: {same} of {pairs} pairs stand as there, {reversed} stand \
                 the other way by more than their deviations together."
            ),
        };
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
    fn orders_are_compared_pair_by_pair() {
        let compare = |cells: &[(f64, Vec<f64>)]| {
            let found = agreement(cells);
            (found.pairs, found.same, found.reversed)
        };
        assert_eq!(compare(&[(80.0, vec![10.0]), (81.0, vec![11.0]), (82.0, vec![12.0])]), (3, 3, 0));
        // two reversed pairs: the first within its deviations, the second beyond
        assert_eq!(compare(&[(80.0, vec![10.0, 12.0]), (81.0, vec![10.0, 11.0])]), (1, 0, 0));
        assert_eq!(compare(&[(80.0, vec![10.0, 10.2]), (81.0, vec![7.0, 7.2])]), (1, 0, 1));
        assert_eq!(compare(&[(80.0, vec![10.0]), (80.0, vec![9.0]), (81.0, vec![])]), (0, 0, 0));
        assert!(!agreement(&[(80.0, vec![10.0]), (81.0, vec![9.0, 9.5])]).deviations);
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
        assert!(text.contains("agrees") && text.contains("3 of 3"), "{text}");
        let text = markdown(&table, &single(&[&[50.0], &[49.0], &[], &[54.0]]), &[], "Tiny.");
        assert!(text.contains("2 of 3 pairs stand as there. One seed"), "{text}");
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
