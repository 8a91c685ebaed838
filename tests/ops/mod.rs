//! GPU against oracle, forward and every gradient, both tiers, in mid-graph position.

mod activation;
mod adamw;
mod patchify;
mod rng;
mod tokens;
