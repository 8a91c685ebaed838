//! InfoNCE against a queue of negatives (MoCo), averaged over the batch, and the update of the queue.
//!
//! ```text
//!   q, k (B, D)   queue (K, D)   τ temperature   p_b = q_b·k_b/τ   n_bj = q_b·queue_j/τ
//!   rows[b] = (ln(exp p_b + Σ_j exp n_bj) − p_b)/B      the sum of rows is the mean loss
//!   dq_b = dloss_b/(B·τ)·((P_b − 1)·k_b + Σ_j P_bj·queue_j), P the softmax over (p_b, n_b); none for k and queue
//!   enqueue, step t from 1: row ((t−1)·B + b) mod K of the queue becomes k_b
//! ```

/// Sizes of the operands.
#[derive(Clone, Copy, Debug)]
pub struct Dims {
    /// Queries and keys, B.
    pub b: usize,
    /// Rows of the queue, K: a multiple of B.
    pub k: usize,
    /// Width D of a row.
    pub d: usize,
}

/// Returns rows (B), the share of each query in the mean loss.
pub fn forward(dim: Dims, q: &[f64], k: &[f64], queue: &[f64], temperature: f64) -> Vec<f64> {
    let row = |b: usize| {
        let logits = logits(dim, q, k, queue, temperature, b);
        let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        (most + logits.iter().map(|x| (x - most).exp()).sum::<f64>().ln() - logits[0]) / dim.b as f64
    };
    (0..dim.b).map(row).collect()
}

/// Gradient dq (B, D) from dloss (B), the gradient of rows.
pub fn backward(dim: Dims, q: &[f64], k: &[f64], queue: &[f64], temperature: f64, dloss: &[f64]) -> Vec<f64> {
    let mut dq = vec![0.0; q.len()];
    for (b, dq) in dq.chunks_mut(dim.d).enumerate() {
        let logits = logits(dim, q, k, queue, temperature, b);
        let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let z: f64 = logits.iter().map(|x| (x - most).exp()).sum();
        for (j, x) in logits.iter().enumerate() {
            let key = if j == 0 { &k[b * dim.d..] } else { &queue[(j - 1) * dim.d..] };
            let weight = (x - most).exp() / z - f64::from(u8::from(j == 0));
            dq.iter_mut().zip(key).for_each(|(dq, key)| *dq += dloss[b] / (dim.b as f64 * temperature) * weight * key);
        }
    }
    dq
}

/// Returns the queue after step `step`, counted from 1.
pub fn enqueue(dim: Dims, queue: &[f64], k: &[f64], step: usize) -> Vec<f64> {
    let mut queue = queue.to_vec();
    for (b, key) in k.chunks(dim.d).enumerate() {
        let at = ((step - 1) % dim.k * dim.b + b) % dim.k * dim.d;
        queue[at..at + dim.d].copy_from_slice(key);
    }
    queue
}

/// Logits of query b: of its key, then of every row of the queue.
fn logits(dim: Dims, q: &[f64], k: &[f64], queue: &[f64], temperature: f64, b: usize) -> Vec<f64> {
    let of = b * dim.d..(b + 1) * dim.d;
    let dot = |key: &[f64]| q[of.clone()].iter().zip(key).map(|(q, k)| q * k).sum::<f64>() / temperature;
    std::iter::once(&k[of.clone()]).chain(queue.chunks(dim.d)).map(dot).collect()
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, close, dot, random};
    use super::*;

    /// The loss of a query that is as close to its key as to each of K negatives is ln(1 + K).
    #[test]
    fn indifference() {
        let dim = Dims { b: 2, k: 4, d: 1 };
        let rows = forward(dim, &[1.0, -3.0], &[0.5; 2], &[0.5; 4], 0.2);
        close("rows", &rows, &[5f64.ln() / 2.0; 2], 1e-12);
    }

    #[test]
    fn gradients() {
        for (b, k, d) in [(1, 1, 1), (3, 6, 5)] {
            let dim = Dims { b, k, d };
            let [q, key, queue, dloss] = [(1, b * d), (2, b * d), (3, k * d), (4, b)].map(|(s, n)| random(s, n));
            let dq = backward(dim, &q, &key, &queue, 0.2, &dloss);
            check("dq", &q, &dq, |q| dot(&forward(dim, q, &key, &queue, 0.2), &dloss));
        }
    }

    #[test]
    fn the_oldest_keys_leave_first() {
        let dim = Dims { b: 2, k: 4, d: 1 };
        let mut queue = vec![0.0; 4];
        for step in 1..=3 {
            queue = enqueue(dim, &queue, &[step as f64, step as f64 + 0.5], step);
        }
        assert_eq!(queue, [3.0, 3.5, 2.0, 2.5]);
    }
}
