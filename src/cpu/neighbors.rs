//! The points nearest to each point of a cloud, and for each point who has it as a neighbor: the graph that
//! [`local_norm_pool`](super::local_norm_pool) reads.

/// The `k` nearest of `t` points (T, 3) to each of them, itself included, by squared distance; of equally near ones the
/// first. (T, K)
pub fn nearest(t: usize, k: usize, points: &[f64]) -> Vec<u32> {
    let squared = |i: usize, j: usize| (0..3).map(|axis| (points[3 * i + axis] - points[3 * j + axis]).powi(2)).sum();
    let of = |i: usize| {
        let mut all: Vec<(f64, u32)> = (0..t).map(|j| (squared(i, j), j as u32)).collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        all.into_iter().take(k).map(|(_, j)| j).collect::<Vec<u32>>()
    };
    (0..t).flat_map(of).collect()
}

/// The graph of an index (T, K): the index; offsets (T+1); and entries (T·K), where those with the neighbor j are
/// entries\[offsets\[j\]..offsets\[j + 1\]\], each i·K + n, ascending.
pub fn graph(t: usize, index: &[u32]) -> Vec<u32> {
    let (mut offsets, mut entries) = (vec![0], Vec::new());
    for j in 0..t {
        entries.extend(index.iter().zip(0u32..).filter(|(neighbor, _)| **neighbor == j as u32).map(|(_, i)| i));
        offsets.push(entries.len() as u32);
    }
    [index, &offsets, &entries].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_three() {
        let index = nearest(3, 2, &[0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 2.0, 0.0, 0.0]);
        assert_eq!(index, [0, 1, 1, 0, 2, 1]); // the middle is as near to both ends
        assert_eq!(graph(3, &index), [0, 1, 1, 0, 2, 1, 0, 2, 5, 6, 0, 3, 1, 2, 5, 4]);
    }
}
