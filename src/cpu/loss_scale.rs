//! Dynamic loss scaling (torch.amp.GradScaler): the loss is multiplied by 2^(16 + level), so that gradients do not
//! vanish in f16. A step whose gradients overflow is skipped.

/// Steps in a row without overflow after which the scale doubles.
pub const GROWTH: f64 = 2000.0;

/// State of the scaling; all 0 before the first step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct State {
    /// Number of doublings of the scale so far minus the number of halvings.
    pub level: f64,
    /// Steps taken in a row; reset to 0 by an overflow and after [`GROWTH`] steps.
    pub good: f64,
    /// Steps skipped because of an overflow.
    pub skipped: f64,
    /// 1 − β1^t after t steps taken.
    pub correction1: f64,
    /// 1 − β2^t after t steps taken.
    pub correction2: f64,
}

/// The factor by which the loss is multiplied.
pub fn scale(state: State) -> f64 {
    2f64.powf(16.0 + state.level)
}

/// Decides from `square_sum`, the sum of squares of the scaled gradients, whether to take a step. Returns the new
/// state, the factor by which to multiply the scaled gradients (it unscales and clips; 0 skips the step), and the norm
/// of the unscaled gradients.
pub fn judge(old: State, square_sum: f64, betas: (f64, f64), max_norm: f64) -> (State, f64, f64) {
    if !square_sum.is_finite() {
        let level = (old.level - 1.0).max(-30.0);
        return (State { level, good: 0.0, skipped: old.skipped + 1.0, ..old }, 0.0, 0.0);
    }
    let grown = old.good + 1.0 >= GROWTH;
    let correction = |beta: f64, old: f64| beta * old + (1.0 - beta);
    let new = State {
        level: if grown { (old.level + 1.0).min(8.0) } else { old.level },
        good: if grown { 0.0 } else { old.good + 1.0 },
        skipped: old.skipped,
        correction1: correction(betas.0, old.correction1),
        correction2: correction(betas.1, old.correction2),
    };
    let norm = square_sum.sqrt() / scale(old);
    (new, (max_norm / (norm + 1e-6)).min(1.0) / scale(old), norm)
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::close;
    use super::*;

    #[test]
    fn corrections_count_the_steps_that_are_taken() {
        let (betas, mut state, mut taken) = ((0.9, 0.999), State::default(), 0);
        for step in 0..50 {
            let overflows = step % 7 == 0;
            taken += i32::from(!overflows);
            (state, _, _) = judge(state, if overflows { f64::INFINITY } else { 4.0 }, betas, 1.0);
            let want = [1.0 - betas.0.powi(taken), 1.0 - betas.1.powi(taken)];
            close("corrections", &[state.correction1, state.correction2], &want, 1e-12);
        }
        assert_eq!((state.skipped, state.level), (8.0, -8.0));
    }

    #[test]
    fn the_scale_grows_after_a_while_and_has_bounds() {
        let mut state = State::default();
        for _ in 0..2000 {
            assert_eq!(state.level, 0.0);
            (state, _, _) = judge(state, 1.0, (0.9, 0.95), 1e30);
        }
        assert_eq!((state.level, state.good), (1.0, 0.0));
        for _ in 0..100 {
            (state, _, _) = judge(state, f64::NAN, (0.9, 0.95), 1e30);
        }
        assert_eq!(state.level, -30.0);
    }

    #[test]
    fn the_factor_takes_the_scale_back_and_clips() {
        let start = State::default();
        let (_, factor, norm) = judge(start, (3.0 * scale(start)).powi(2), (0.9, 0.95), 1.5);
        close("norm and factor", &[norm, factor * scale(start)], &[3.0, 1.5 / (3.0 + 1e-6)], 1e-12);
    }
}
