//! The linear probe and the k-nearest-neighbor probe, on features that are made up.

use pollster::block_on;
use rowscan::infer::probe::{Features, linear_probe, nearest_neighbors};

use crate::common::{Random, each_tier, gpu};

/// n points in `width` dimensions: point i is a corner of a simplex for its class, i modulo `classes`, plus noise of
/// size `spread`.
fn clusters(seed: u64, n: usize, classes: usize, width: usize, spread: f32) -> (Vec<f32>, Vec<u32>) {
    let mut random = Random::new(seed);
    let labels: Vec<u32> = (0..n).map(|i| (i % classes) as u32).collect();
    let noise = random.normal(n * width);
    let corner = |i: usize| if i % width == labels[i / width] as usize { 1.0 } else { 0.0 };
    // each column has its own scale and origin
    let column = |i: usize| (i % width + 1) as f32;
    ((0..n * width).map(|i| (corner(i) + spread * noise[i]) * column(i) - column(i)).collect(), labels)
}

#[test]
fn what_can_be_told_apart_is() {
    let Some(g) = gpu() else { return };
    // more rows than one program takes, then few
    for (n, classes, width) in [(4999, 7, 13), (30, 3, 3)] {
        let make = |seed, n| {
            let (rows, labels) = clusters(seed, n, classes, width, 0.15);
            Features::new(rows, width, labels).unwrap()
        };
        let (train, test) = (make(1, n), make(2, 101));
        let scores = block_on(linear_probe(g, &train, &test, classes, 80)).unwrap();
        assert!(scores.top1 > 99.0, "{scores:?}");
        let shuffled = Features::new(clusters(3, n, classes, width, 0.15).0, width, vec![0; n]).unwrap();
        let scores = block_on(linear_probe(g, &shuffled, &test, classes, 80)).unwrap();
        let zeros = 100.0 * 101usize.div_ceil(classes) as f64 / 101.0;
        assert!((scores.top1 - zeros).abs() < 1e-9, "only one class was ever seen: {scores:?}");
    }
    let (rows, labels) = clusters(1, 9, 3, 3, 0.1);
    let train = Features::new(rows, 3, labels).unwrap();
    let error = block_on(linear_probe(g, &train, &train, 2, 1)).unwrap_err().to_string();
    assert!(error.contains("a label: got 2, expected below 2"), "{error}");
    assert!(block_on(nearest_neighbors(g, &train, &train, 2, 9, 0.07)).is_err());
    assert!(Features::new(vec![0.0; 5], 2, vec![0, 1]).is_err());
    assert!(Features::new(vec![], 2, vec![]).is_err());
}

#[test]
fn neighbors_are_the_nearest() {
    each_tier(|g| {
        let (classes, width, k, temperature) = (5, 8, 7, 0.1);
        let (train_rows, train_labels) = clusters(4, 301, classes, width, 0.9);
        let (test_rows, test_labels) = clusters(5, 290, classes, width, 0.9);
        let train = Features::new(train_rows.clone(), width, train_labels.clone()).unwrap();
        let test = Features::new(test_rows.clone(), width, test_labels.clone()).unwrap();
        let found = block_on(nearest_neighbors(g, &train, &test, classes, k, temperature)).unwrap();
        // the expected votes in f64, image by image
        let unit = |row: &[f32]| -> Vec<f64> {
            let norm = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
            row.iter().map(|v| f64::from(*v) / norm).collect()
        };
        let keys: Vec<Vec<f64>> = train_rows.chunks(width).map(unit).collect();
        let right = test_rows.chunks(width).zip(&test_labels).filter(|(row, label)| {
            let query = unit(row);
            let dot = |key: &Vec<f64>| key.iter().zip(&query).map(|(a, b)| a * b).sum::<f64>();
            let mut near: Vec<(f64, u32)> = keys.iter().map(dot).zip(train_labels.iter().copied()).collect();
            near.sort_by(|a, b| b.0.total_cmp(&a.0));
            let mut votes = vec![0.0; classes];
            near[..k].iter().for_each(|(s, class)| votes[*class as usize] += (s / temperature).exp());
            (0..classes).max_by(|a, b| votes[*a].total_cmp(&votes[*b])) == Some(**label as usize)
        });
        let want = 100.0 * right.count() as f64 / 290.0;
        assert!(want > 25.0 && want < 95.0, "a case that is neither chance nor trivial: {want}");
        // one or two images may have neighbors whose distances f32 cannot tell apart
        assert!((found.top1 - want).abs() < 0.8, "{} and {want}", found.top1);
    });
}
