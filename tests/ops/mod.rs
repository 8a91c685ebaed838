//! GPU against oracle, forward and every gradient, both tiers, in mid-graph position.

mod activation;
mod layer_norm;
mod rms_norm;
