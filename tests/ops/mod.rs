//! GPU against oracle, forward and every gradient, both tiers, in mid-graph position.

mod activation;
mod add;
mod attention;
mod layer_norm;
mod matmul;
mod reduce;
mod rms_norm;
mod scale;
