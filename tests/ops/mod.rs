//! GPU against oracle, forward and every gradient, both tiers, in mid-graph position.

mod activation;
mod adamw;
mod add;
mod attention;
mod layer_norm;
mod matmul;
mod patchify;
mod reduce;
mod rms_norm;
mod rng;
mod scale;
mod tokens;
