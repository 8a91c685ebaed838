//! One test binary. Ring 0 needs no adapter; ring 1 runs on any, also on a software one.

mod common; // adapters of both tiers, random data, tolerances

mod bench; // ring 1: what the benches call right
mod conformance; // ring 1: fixtures made elsewhere
mod layering; // ring 0: no circles, an arrow may only point down
mod shaders;
// ring 0: line widths, references that resolve // ring 0: every kernel through naga, compared with its Rust side
mod text;

mod adapt; // ring 0: checkpoints in other models, files made elsewhere
mod backbones; // ring 1: what holds for every backbone
mod checkpointing; // ring 1: blocks computed again, and the memory that saves
mod cli; // ring 1: the program as people run it
mod methods; // ring 1: every pretraining method
mod models; // ring 0: sizes, names and shapes of the presets
mod ops; // ring 1: GPU against oracle, forward and every gradient
mod probe; // ring 1: probes of given features
mod runtime; // ring 1: record, plan, replay
mod session; // ring 1: training without files, saved and loaded
mod settings; // ring 0: recipes, decay, what fits
mod tenants; // ring 0: data sets of a user: masks, boxes, points
mod tenants_models; // ring 1: a pyramid with buffers, a recording cut in two
mod training; // ring 1: steady state, determinism
