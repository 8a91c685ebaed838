//! GPU against oracle, forward and every gradient, both tiers, in mid-graph position.

mod activation;
mod cross_entropy;
mod layer_norm;
mod mse_norm;
mod rms_norm;
