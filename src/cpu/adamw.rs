//! One AdamW step over flat parameters, as torch.optim.AdamW computes it, after clipping by the global norm.
//!
//! ```text
//!   p, g, m, v, decay (n);  decay is the weight decay of each element;  step counts from 1
//!   g <- clip·g,  clip = min(1, max_norm / (‖g‖ + 1e-6))           (torch.nn.utils.clip_grad_norm_)
//!   m <- β1·m + (1-β1)·g      v <- β2·v + (1-β2)·g²
//!   p <- p·(1 - lr·decay) - lr/(1-β1^step) · m / (√v/√(1-β2^step) + eps)
//! ```

/// Hyper-parameters of one step.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Learning rate.
    pub lr: f64,
    /// β1, β2.
    pub betas: (f64, f64),
    /// eps, added to √v.
    pub eps: f64,
    /// Number of the step, from 1.
    pub step: u32,
    /// Factor of the gradient: [`clip_factor`], or 1.
    pub clip: f64,
}

/// Parameters and moments, each (n).
#[derive(Clone, Debug)]
pub struct State {
    /// Parameters p.
    pub p: Vec<f64>,
    /// First moment m (exp_avg), 0 before the first step.
    pub m: Vec<f64>,
    /// Second moment v (exp_avg_sq), 0 before the first step.
    pub v: Vec<f64>,
}

/// Returns the state after the step.
pub fn step(cfg: Config, old: &State, g: &[f64], decay: &[f64]) -> State {
    let (b1, b2) = cfg.betas;
    let (bias1, bias2) = (1.0 - b1.powf(cfg.step.into()), 1.0 - b2.powf(cfg.step.into()));
    let mut new = old.clone();
    for i in 0..g.len() {
        let g = cfg.clip * g[i];
        let m = b1 * old.m[i] + (1.0 - b1) * g;
        let v = b2 * old.v[i] + (1.0 - b2) * g * g;
        let move_by = cfg.lr / bias1 * m / (v.sqrt() / bias2.sqrt() + cfg.eps);
        new.p[i] = old.p[i] * (1.0 - cfg.lr * decay[i]) - move_by;
        (new.m[i], new.v[i]) = (m, v);
    }
    new
}

/// Returns ‖g‖ over all gradients.
pub fn global_norm(g: &[f64]) -> f64 {
    g.iter().map(|g| g * g).sum::<f64>().sqrt()
}

/// Returns min(1, max_norm / (norm + 1e-6)).
pub fn clip_factor(norm: f64, max_norm: f64) -> f64 {
    (max_norm / (norm + 1e-6)).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::close;
    use super::*;

    /// Under a constant gradient both bias-corrected moments are exact (g, g²), so a step moves by lr·g/(|g| + eps).
    #[test]
    fn constant_gradient() {
        let (g, decay, mut p) = ([0.5, -2.0, 1e-3, 0.0], [0.05, 0.0, 0.05, 0.1], [1.0, -1.0, 0.0, 4.0]);
        let mut state = State { p: p.to_vec(), m: vec![0.0; 4], v: vec![0.0; 4] };
        for step in 1..=5 {
            let cfg = Config { lr: 0.01, betas: (0.9, 0.95), eps: 1e-8, step, clip: 1.0 };
            state = super::step(cfg, &state, &g, &decay);
            for i in 0..4 {
                p[i] = p[i] * (1.0 - 0.01 * decay[i]) - 0.01 * g[i] / (g[i].abs() + 1e-8);
            }
            close("p", &state.p, &p, 1e-12);
        }
    }

    /// Two steps with unlike gradients, worked by hand: betas (0.5, 0.5), eps 0, no decay.
    #[test]
    fn two_steps() {
        let cfg = Config { lr: 0.1, betas: (0.5, 0.5), eps: 0.0, step: 1, clip: 0.5 };
        let state = State { p: vec![0.0], m: vec![0.0], v: vec![0.0] };
        let one = step(cfg, &state, &[2.0], &[0.0]);
        let two = step(Config { step: 2, ..cfg }, &one, &[-6.0], &[0.0]);
        close("m, v", &[one.m[0], one.v[0], two.m[0], two.v[0]], &[0.5, 0.5, -1.25, 4.75], 1e-15);
        close("p", &[one.p[0], two.p[0]], &[-0.1, -0.1 + 0.1 * (1.25 / 0.75) / (4.75f64 / 0.75).sqrt()], 1e-15);
    }

    #[test]
    fn clipping() {
        assert_eq!(global_norm(&[3.0, 0.0, -4.0]), 5.0);
        assert_eq!(clip_factor(5.0, 1.0), 1.0 / 5.000001);
        assert_eq!(clip_factor(0.5, 1.0), 1.0);
    }
}
