// lib/step — the values that change from step to step; the host uploads them before each replay. `StepState` in
// src/ops/step.rs is the same struct in Rust.
struct StepState {
    lr: f32,                // learning rate of this step
    bias_correction1: f32,  // 1 − β1^t, t counts from 1
    bias_correction2: f32,  // 1 − β2^t
    seed_lo: u32,           // key of the random numbers (rng.wgsl)
    seed_hi: u32,
    step: u32,              // t, also part of every random counter
    part: u32,              // number of the micro-batch within the step, also part of every random counter
}
