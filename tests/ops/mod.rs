//! GPU against oracle, forward and every gradient, both tiers, in mid-graph position.

mod activation;
mod adamw;
mod add;
mod attention;
mod conv1d;
mod cross_entropy;
mod diffusion;
mod ema;
mod info_nce;
mod l2_norm;
mod layer_norm;
mod loss_scale;
mod matmul;
mod mlp;
mod modulate;
mod mse_norm;
mod patchify;
mod reduce;
mod registers;
mod reshape;
mod rms_norm;
mod rng;
mod scale;
mod selective_scan;
mod ssm;
mod tokens;
