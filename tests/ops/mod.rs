//! Operators against their oracles in src/cpu: the result and every gradient, on every tier, in the middle of a graph.

mod activation;
mod adamw;
mod add;
mod attention;
mod concat;
mod conv1d;
mod cross_entropy;
mod diffusion;
mod ema;
mod info_nce;
mod l2_norm;
mod loss_scale;
mod matmul;
mod mlp;
mod modulate;
mod mse_norm;
mod norm;
mod patchify;
mod reduce;
mod registers;
mod reshape;
mod rng;
mod scale;
mod selective_scan;
mod ssm;
mod tokens;
