//! All integration tests in one binary, so that they link the library once. Ring 0 needs no adapter. Ring 1 runs on any
//! adapter, a software one included, and is skipped without one.

// helpers
mod common; // devices of every tier, random data, tolerances
mod nano; // models that train in seconds
mod wgsl; // shaders through naga

// ring 0
mod adapt; // checkpoints of other models and other libraries
mod data_sets; // files that other packages write: WebDataset, Parquet
mod layering; // imports point one way
mod manifest; // every kernel with its tests, bench, static rows: what they really launch
mod models; // sizes, tensor names and shapes of the presets
mod objectives; // options of the pretraining methods
mod settings; // recipes, weight decay, batch that fits in memory, file formats
mod shaders; // every kernel through naga, compared with its description in Rust
mod support; // what was found right on which adapter
mod tenants; // data sets that users define: masks, boxes, points
mod text; // line widths, paths and headings that comments cite

// ring 1
mod backbones; // what holds for every backbone
mod bench; // the check of results before an operator is timed
mod checkpointing; // activation checkpointing
mod cli; // the program as people run it
mod conformance; // fixtures that PyTorch made
mod dense; // networks for segmentation and detection
mod examples; // the ladder in examples/, run as it is
mod image_size; // weights at another image size
mod layers; // layers that hold more than an operator
mod maps; // backbones on maps: what is hidden stays hidden, batch norms in training
mod methods; // every pretraining method
mod ops; // operators against their oracles, forward and every gradient
mod points; // networks on point clouds: training by every method
mod probe; // linear and k-nearest-neighbor probes
mod ranks; // training that several processes share
mod runtime; // record, plan, replay
mod session; // training without files, saved and loaded
mod tenants_models; // networks that users define: a pyramid with buffers, a recording cut in two
mod training; // steady state, determinism, precision
mod transfer; // backbones of checkpoints in networks for dense tasks
mod windows; // attention within windows
