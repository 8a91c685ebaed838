//! GPU against oracle, forward and every gradient, both tiers, in mid-graph position.

mod activation;
mod add;
mod conv1d;
mod matmul;
mod reduce;
mod scale;
mod selective_scan;
mod ssm;
