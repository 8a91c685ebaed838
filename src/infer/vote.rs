//! Test-time voting: the scores of several views of each sample, averaged. Tables of point clouds report it beside the
//! accuracy of a single view.

use crate::error::{Error, Result};

/// The mean over votes (T, N, K) of the scores of N samples: (N, K).
///
/// # Errors
/// No vote, or votes of different lengths.
pub fn mean_scores(votes: &[Vec<f32>]) -> Result<Vec<f32>> {
    let Some(first) = votes.first() else {
        return Err(Error::argument("votes", 0, "at least 1"));
    };
    if let Some(other) = votes.iter().find(|vote| vote.len() != first.len()) {
        return Err(Error::argument("scores of a vote", other.len(), first.len()));
    }
    let mean = |i: usize| votes.iter().map(|vote| f64::from(vote[i])).sum::<f64>() / votes.len() as f64;
    Ok((0..first.len()).map(|i| mean(i) as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn votes_are_averaged() {
        assert_eq!(mean_scores(&[vec![1.0, 2.0], vec![2.0, 4.0]]).unwrap(), [1.5, 3.0]);
        assert!(mean_scores(&[]).unwrap_err().to_string().contains("votes: got 0"));
        assert!(mean_scores(&[vec![1.0], vec![]]).unwrap_err().to_string().contains("got 0, expected 1"));
    }
}
