//! A weighted sum kept in place, average <- keep·average + take·x, element by element. It is timm's ModelEma if keep =
//! m and take = 1 − m. keep = 0 ignores the old average, even if that is NaN.

/// Returns the new average.
pub fn update(average: &[f64], x: &[f64], keep: f64, take: f64) -> Vec<f64> {
    let old = |a: &f64| if keep == 0.0 { 0.0 } else { keep * a };
    average.iter().zip(x).map(|(a, x)| old(a) + take * x).collect()
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::close;
    use super::*;

    /// While the weights x are constant, the distance to them shrinks by m in each step: average = x + mᵗ·(start − x).
    #[test]
    fn an_average_approaches_what_it_follows() {
        let (start, x, m) = ([3.0, -1.0], [1.0, 2.0], 0.9f64);
        let mut average = start.to_vec();
        for t in 1..=20 {
            average = update(&average, &x, m, 1.0 - m);
            let want: Vec<f64> = start.iter().zip(&x).map(|(s, x)| x + m.powi(t) * (s - x)).collect();
            close("average", &average, &want, 1e-12);
        }
    }

    #[test]
    fn a_sum_begins_anew_where_nothing_is_kept() {
        let one = update(&[f64::NAN, 7.0], &[2.0, 4.0], 0.0, 0.5);
        assert_eq!(update(&one, &[6.0, -8.0], 1.0, 0.5), [4.0, -2.0]);
    }
}
