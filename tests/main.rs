//! One test binary. Ring 0 needs no adapter; ring 1 runs on any, also on a software one.

mod common; // adapters of both tiers, random data, tolerances

mod layering; // ring 0: an arrow may only point down
mod shaders; // ring 0: every kernel through naga, compared with its Rust side

mod ops; // ring 1: GPU against oracle, forward and every gradient
mod runtime; // ring 1: record, plan, replay
