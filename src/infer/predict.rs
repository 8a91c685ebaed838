//! What a classifier takes an image for: its classes by probability.

use std::cmp::Ordering;

use serde::Serialize;

use super::scores::exponentials;

/// A class, and how likely a classifier finds it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ClassProbability {
    /// Its number.
    pub class: usize,
    /// The softmax of its score.
    pub probability: f32,
}

/// The `count` classes with the highest of these scores, the highest first; all classes if there are fewer. Of equal
/// scores, that of the lower class number counts as the higher. None where a score is not finite: then no probability
/// means anything.
pub fn most_likely(scores: &[f32], count: usize) -> Option<Vec<ClassProbability>> {
    if !scores.iter().all(|score| score.is_finite()) {
        return None;
    }
    let mut classes: Vec<usize> = (0..scores.len()).collect();
    classes.sort_by(|&a, &b| scores[b].partial_cmp(&scores[a]).unwrap_or(Ordering::Equal).then(a.cmp(&b)));
    classes.truncate(count);
    let (most, sum) = exponentials(scores);
    let probability = |class: usize| ((f64::from(scores[class]) - most).exp() / sum) as f32;
    Some(classes.into_iter().map(|class| ClassProbability { class, probability: probability(class) }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_by_probability() {
        let scores = [1.0f32, 3.0, -2.0, 3.0, 0.5];
        let all = most_likely(&scores, 9).unwrap();
        assert_eq!(all.iter().map(|c| c.class).collect::<Vec<_>>(), [1, 3, 0, 4, 2]);
        assert!((all.iter().map(|c| c.probability).sum::<f32>() - 1.0).abs() < 1e-6);
        let sum: f32 = scores.iter().map(|score| score.exp()).sum();
        all.iter().for_each(|c| assert!((c.probability - scores[c.class].exp() / sum).abs() < 1e-6));
        assert_eq!(most_likely(&scores, 2).unwrap(), all[..2]);
        assert_eq!((most_likely(&scores, 0).unwrap(), most_likely(&[], 3).unwrap()), (vec![], vec![]));
        // zeros of either sign are equal
        assert_eq!(most_likely(&[-0.0, 0.0], 1).unwrap()[0].class, 0);
    }

    #[test]
    fn scores_without_a_probability_have_none_and_large_ones_do_not_overflow() {
        let sure = most_likely(&[3e38, -3e38, 0.0], 3).unwrap();
        assert_eq!(sure.iter().map(|c| (c.class, c.probability)).collect::<Vec<_>>(), [(0, 1.0), (2, 0.0), (1, 0.0)]);
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(most_likely(&[0.0, odd], 1), None);
        }
    }
}
