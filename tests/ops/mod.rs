//! GPU against oracle, forward and every gradient, both tiers, in mid-graph position.

mod activation;
mod conv1d;
mod selective_scan;
