//! Report of a table: our results beside the paper's in markdown, and whether the cells rank in the paper's order.

use std::fmt::Write;

use super::table::{Cell, Table};

/// Top-1 accuracy of one cell in percent, for each finished seed.
pub type CellScores = Vec<f64>;

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
pub fn agreement(cells: &[(f64, &CellScores)]) -> Agreement {
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

/// The table in markdown. `scores` has one entry per cell. `scale` is a sentence about the size of the experiment.
pub fn markdown(table: &Table, scores: &[CellScores], scale: &str) -> String {
    let mut text = format!("## Table {}: {}\n\n{scale}\n", table.name, table.title);
    for group in table.groups() {
        let cells: Vec<(&Cell, &CellScores)> =
            table.cells.iter().zip(scores).filter(|(c, _)| c.group == group).collect();
        let _ = writeln!(text, "\n| {group} | paper, ImageNet-1k top-1 % | here, top-1 % | seeds |\n|---|---|---|---|");
        for (cell, scores) in &cells {
            let ours = match mean_deviation(scores) {
                Some((mean, deviation)) if scores.len() > 1 => format!("{mean:.2} ± {deviation:.2}"),
                Some((mean, _)) => format!("{mean:.2}"),
                None => "not run".into(),
            };
            let _ = writeln!(text, "| {} | {:.1} | {ours} | {} |", cell.label, cell.paper, scores.len());
        }
        let found = agreement(&cells.iter().map(|(cell, scores)| (cell.paper, *scores)).collect::<Vec<_>>());
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
        let compare = |cells: &[(f64, CellScores)]| {
            let found = agreement(&cells.iter().map(|(paper, scores)| (*paper, scores)).collect::<Vec<_>>());
            (found.pairs, found.same, found.reversed)
        };
        assert_eq!(compare(&[(80.0, vec![10.0]), (81.0, vec![11.0]), (82.0, vec![12.0])]), (3, 3, 0));
        // two reversed pairs: the first within its deviations, the second beyond
        assert_eq!(compare(&[(80.0, vec![10.0, 12.0]), (81.0, vec![10.0, 11.0])]), (1, 0, 0));
        assert_eq!(compare(&[(80.0, vec![10.0, 10.2]), (81.0, vec![7.0, 7.2])]), (1, 0, 1));
        assert_eq!(compare(&[(80.0, vec![10.0]), (80.0, vec![9.0]), (81.0, vec![])]), (0, 0, 0));
        let one = vec![10.0];
        assert!(!agreement(&[(80.0, &one), (81.0, &vec![9.0, 9.5])]).deviations);
    }

    #[test]
    fn tables_say_what_was_not_run() {
        let table = Table::named("6").unwrap();
        let text = markdown(&table, &[vec![50.0, 52.0], vec![53.0], vec![], vec![54.0]], "Tiny.");
        assert!(
            text.contains("| AR | 83.7 | 51.00 ± 1.41 | 2 |") && text.contains("| local MAE | 84.2 | not run | 0 |")
        );
        assert!(text.contains("agrees") && text.contains("3 of 3"), "{text}");
        let text = markdown(&table, &[vec![50.0], vec![49.0], vec![], vec![54.0]], "Tiny.");
        assert!(text.contains("2 of 3 pairs stand as there. One seed"), "{text}");
    }
}
